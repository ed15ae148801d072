//! A lane's own session: opened when it is needed, and replaced when it is lost.

use std::time::Duration;

use futures_util::TryFutureExt;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use super::core::{Locked, Request, Response};
use super::fold;
use super::statement::{self, Part};
use crate::approach::guarded_update;
use crate::ledger::{Change, ChangeError, UserId};
use crate::store::error::Failure;
use crate::store::held;
use crate::store::session::{Connector, Session, SessionLimits};

/// How much longer a request that locks first waits for the row, which keeps changing hands.
const LOCKED_WAIT_FACTOR: u32 = 5;

/// A session that is opened on demand.
pub(super) struct Link {
    connector: Connector,
    session: Option<Session>,
}

impl Link {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, session: None }
    }

    /// Sends a request and returns the response. Each step is bounded in time: the check of the
    /// session, the opening of a new one, and the request itself.
    pub(super) async fn send(&mut self, request: Request<'_>) -> Result<Response, Failure> {
        let mut session = self.session().await?;
        let SessionLimits { answer, lock_wait } = self.connector.limits();
        // `lock_timeout` ends the wait before the server ends the statement: a clean failure.
        let lock_wait = (lock_wait * LOCKED_WAIT_FACTOR).min(answer / 4);
        let sending = send(session.connection(), request, lock_wait).map_err(Failure::at_commit);
        let result = timeout(answer, sending).await;
        let (response, spent) = session.after(result);
        self.session = match spent {
            Some(spent) => spent.recover().await,
            None => None,
        };
        response
    }

    async fn session(&mut self) -> Result<Session, Failure> {
        if let Some(mut session) = self.session.take()
            && session.check().await.is_ok()
        {
            return Ok(session);
        }
        let opened = self.connector.open().await;
        let session = opened.map_err(|error| Failure::Unreachable(error.into()))?;
        let (result, spent) = session
            .run(self.connector.limits().answer, |connection| {
                Box::pin(async move {
                    let done = connection.execute(statement::SESSION).await;
                    done.map_err(Failure::before_commit)
                })
            })
            .await;
        let unusable = || Failure::Unreachable("the session did not take its settings".into());
        result.map_err(|failure| Failure::Unreachable(ChangeError::from(failure).into()))?;
        match spent {
            Some(spent) => spent.recover().await.ok_or_else(unusable),
            None => Err(unusable()),
        }
    }
}

async fn send(
    connection: &mut PgConnection,
    request: Request<'_>,
    lock_wait: Duration,
) -> Result<Response, sqlx::Error> {
    Ok(match request {
        Request::Alone(change) => {
            Response::Alone(guarded_update::update(connection, change).await?)
        }
        Request::Batch(parts) => Response::Batch(statement::send(connection, &parts).await?),
        Request::Locked { user, changes } => {
            Response::Locked(locked(connection, user, changes, lock_wait).await?)
        }
        Request::Probe(users) => Response::Probe(held::probe(connection, users).await?),
    })
}

/// Locks one user's row, decides its changes one by one, and commits. Cannot lose a race. `None` where
/// there is no such user.
async fn locked(
    connection: &mut PgConnection,
    user: UserId,
    changes: Vec<&Change>,
    wait: Duration,
) -> Result<Option<Locked>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let Some((funds, version)) = statement::lock(&mut transaction, user, wait).await? else {
        transaction.rollback().await?;
        return Ok(None);
    };
    let plan = fold::each(funds, version, changes.iter().copied());
    let mut replies = Vec::new();
    let part = Part { user, plan: &plan, changes };
    // Keys are looked up even if there is nothing to write.
    if plan.writes(&part.changes) || part.keys().next().is_some() {
        replies = statement::send(&mut transaction, &[part]).await?;
    }
    transaction.commit().await?;
    Ok(Some(Locked { before: funds.balance, plan, replies }))
}
