//! A lane's own connection: made when it is needed, and again when it was lost.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::fold::{self, Plan};
use super::statement::{self, Part, Reply};
use crate::approach::guarded_update;
use crate::balance::{Balance, Change, ChangeError, Decision, UserId};
use crate::store::error::{Sent, change_error, sqlstate};
use crate::store::{Store, ping_if_rested};

/// A database that takes longer than this to let somebody in is not there.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// A connection that is there when it is needed.
pub(super) struct Link {
    store: Store,
    connection: Option<PgConnection>,
    used: Instant,
}

/// How a batch failed.
#[derive(Debug)]
pub(super) enum Lost {
    /// The database cannot be reached; nothing was sent.
    Unreachable(ChangeError),
    /// The connection was broken before the database had the batch; a new one may do better.
    NotSent(ChangeError),
    /// The database answered with an error, and did nothing.
    Rejected(sqlx::Error),
    /// It was sent, and there is no answer.
    Unanswered(ChangeError),
}

/// What came of a user whose row was locked first.
pub(super) struct Locked {
    /// The balance that was found.
    pub(super) before: Balance,
    /// What was decided on it.
    pub(super) plan: Plan,
    /// What the statement said; none where there was nothing to write.
    pub(super) replies: Vec<Reply>,
}

impl Link {
    pub(super) fn new(store: Store) -> Self {
        Self { store, connection: None, used: Instant::now() }
    }

    /// Sends a batch, which commits by itself.
    pub(super) async fn send(&mut self, parts: &[Part<'_>]) -> Result<Vec<Reply>, Lost> {
        let limit = self.store.answer_limit();
        let connection = self.connection().await?;
        let result = timeout(limit, statement::send(connection, parts)).await;
        self.sort(result)
    }

    /// Sends a change without a key alone, as `self` does. `None` where there is no such user.
    pub(super) async fn send_alone(&mut self, change: &Change) -> Result<Option<Decision>, Lost> {
        let limit = self.store.answer_limit();
        let connection = self.connection().await?;
        let result = timeout(limit, guarded_update::update(connection, change)).await;
        self.sort(result)
    }

    /// Locks one user's row, decides one by one on what it finds, and commits. Cannot lose a race.
    /// `None` where there is no such user.
    pub(super) async fn send_locked(
        &mut self,
        user: UserId,
        changes: Vec<&Change>,
    ) -> Result<Option<Locked>, Lost> {
        let limit = self.store.answer_limit();
        let connection = self.connection().await?;
        let result = timeout(limit, locked(connection, user, changes)).await;
        self.sort(result)
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, Lost> {
        if let Some(connection) = &mut self.connection
            && ping_if_rested(connection, self.used.elapsed()).await.is_err()
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            let connected = timeout(CONNECT_MAX, connect(&self.store)).await;
            let refused = |cause| Lost::Unreachable(ChangeError::NotApplied(cause));
            let connection = connected
                .map_err(|elapsed| refused(elapsed.into()))?
                .map_err(|error| refused(error.into()))?;
            self.connection = Some(connection);
        }
        self.connection
            .as_mut()
            .ok_or_else(|| Lost::Unreachable(ChangeError::NotApplied("no connection".into())))
    }

    /// A connection that failed is dropped, which closes it: nothing of a batch that was given up
    /// can be mistaken for the next one.
    fn sort<T>(&mut self, result: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, Lost> {
        self.used = Instant::now();
        let error = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if is_rejection(&error) => return Err(Lost::Rejected(error)),
            Ok(Err(error)) => change_error(error, Sent::Commit),
            Err(elapsed) => ChangeError::OutcomeUnknown(elapsed.into()),
        };
        self.connection = None;
        Err(match error {
            ChangeError::OutcomeUnknown(_) => Lost::Unanswered(error),
            _ => Lost::NotSent(error),
        })
    }
}

/// An answer of the server that leaves the session alive. Class 57P ends it.
fn is_rejection(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|code| !code.starts_with("57P"))
}

async fn connect(store: &Store) -> Result<PgConnection, sqlx::Error> {
    let mut connection = store.connect().await?;
    connection.execute(statement::SESSION).await?;
    Ok(connection)
}

async fn locked(
    connection: &mut PgConnection,
    user: UserId,
    changes: Vec<&Change>,
) -> Result<Option<Locked>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let Some((before, version)) = statement::lock(&mut transaction, user).await? else {
        return Ok(None);
    };
    let plan = fold::each(before, version, changes.iter().copied());
    let mut replies = Vec::new();
    if plan.writes(&changes) {
        let part = Part { user, plan: &plan, changes };
        replies = statement::send(&mut transaction, &[part]).await?;
    }
    transaction.commit().await?;
    Ok(Some(Locked { before, plan, replies }))
}
