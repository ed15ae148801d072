//! Everything that speaks to PostgreSQL, apart from the approaches' own statements.
//!
//! [`Store::perform`] is the only way to a pooled session. It keeps two promises on which the rest
//! is built: a client that hangs up never cancels database work, and no answer waits for ever.

pub mod error;
pub mod expiry;
pub mod held;
pub mod journal;
pub mod keys;
pub mod pool;
pub mod readiness;
pub mod retry;
pub mod schema;
pub mod session;
pub mod users;

use std::time::Duration;

use sqlx::PgConnection;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::balance::{Balance, ChangeError, Key, UserId};
use error::Failure;
use held::Looked;
use pool::{Pool, Whose};
use retry::Attempts;
use session::{Connector, SessionLimits};

/// A boxed future that borrows for as long as it runs.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How many sessions there are and how long they may take.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Sessions for changes, all opened at start.
    pub size: u32,
    /// Further sessions, for what only reads.
    pub reads: u32,
    /// How long a change may wait for a session before it is refused as not applied.
    pub wait: Duration,
    /// How long each of them may take.
    pub session: SessionLimits,
    /// How long to wait at start for a database that does not answer yet.
    pub connect: Duration,
}

impl PoolLimits {
    /// On how many threads the sessions live. On each there are at least two for changes, so that
    /// one user cannot have all of them, and one for reads.
    pub fn homes(&self, threads: u32) -> u32 {
        threads.min(self.size / 2).min(self.reads).max(1)
    }

    /// The share of one home.
    pub fn of_home(&self, number: u32, homes: u32) -> Self {
        let share = |all: u32| (all / homes + u32::from(number < all % homes)).max(1);
        Self { size: share(self.size), reads: share(self.reads), ..*self }
    }
}

/// The sessions of one thread, its *home*: there they were opened, and there all work on them runs.
/// To use a session from elsewhere would cost a wake-up across threads for each of its messages.
/// Clones share them, and may be used from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    home: Handle,
    changes: Pool,
    reads: Pool,
    limits: PoolLimits,
}

impl Store {
    /// Opens all sessions, on the current runtime.
    ///
    /// # Errors
    /// As the database says.
    pub async fn open(connector: &Connector, limits: PoolLimits) -> Result<Self, sqlx::Error> {
        let pool = |size| Pool::new(connector.clone(), usize::try_from(size).unwrap_or(1));
        let (changes, reads) = (pool(limits.size), pool(limits.reads));
        changes.fill().await?;
        reads.fill().await?;
        Ok(Self { home: Handle::current(), changes, reads, limits })
    }

    /// Runs `work` on a session of its own, in a task of its own.
    ///
    /// The returned future may be dropped at any time: the work runs to completion. A statement
    /// that is cancelled half-way would leave its session inside an untracked transaction, where
    /// later commits look fine and are lost.
    ///
    /// # Errors
    /// [`Failure::NotSent`] when no session was free in time, [`Failure::Unreachable`] when none can
    /// be opened, and [`Failure::Unknown`] when the work took too long; otherwise what `work` says.
    pub async fn perform<T, W>(&self, whose: Whose, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>
            + Send
            + 'static,
    {
        self.perform_in(self.changes.clone(), whose, work).await
    }

    /// Performs what only reads: however it ends, it changed nothing, so nothing is unknown.
    async fn read<T, W>(&self, whose: Whose, work: W) -> Result<T, ChangeError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>
            + Send
            + 'static,
    {
        self.perform_in(self.reads.clone(), whose, work).await.map_err(|failure| match failure {
            Failure::Unknown(cause) => ChangeError::NotApplied(cause),
            other => other.into(),
        })
    }

    async fn perform_in<T, W>(&self, pool: Pool, whose: Whose, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>
            + Send
            + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let PoolLimits { wait, session: SessionLimits { answer: limit, .. }, .. } = self.limits;
        self.spawn(async move {
            let mut lease = match pool.lease(whose, wait).await {
                Ok(lease) => lease,
                Err(failure) => return drop(answer.send(Err(failure))),
            };
            let Some(session) = lease.take() else { return };
            let (result, spent) = session.run(limit, work).await;
            drop(answer.send(result));
            lease.put_back(match spent {
                Some(spent) => spent.recover().await,
                None => None,
            });
        });
        // The task panicked, or its runtime has ended: nobody knows how far it came.
        outcome.await.unwrap_or_else(|gone| Err(Failure::Unknown(gone.into())))
    }

    /// How long a change may wait for a session.
    pub fn wait(&self) -> Duration {
        self.limits.wait
    }

    /// Runs a task on the home of the sessions.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.home.spawn(task));
    }

    /// The balance of a user as of now.
    pub async fn balance(&self, user: UserId) -> Result<Balance, ChangeError> {
        self.read(Some(user), move |connection| Box::pin(users::balance(connection, user))).await
    }

    /// Creates a user; with a key, at most once.
    pub async fn create_user(
        &self,
        opening: Balance,
        key: Option<Key>,
    ) -> Result<users::Created, ChangeError> {
        let mut attempts = Attempts::new(users::POLICY);
        loop {
            let key = key.clone();
            let creating = self.perform(None, move |connection| {
                Box::pin(async move { users::create(connection, opening, key.as_ref()).await })
            });
            match creating.await {
                Err(Failure::Race(_)) if attempts.again().await => {}
                ended => return Ok(ended?),
            }
        }
    }

    /// At most `limit` journal rows of a user, newest first, with versions below `before`.
    pub async fn history(
        &self,
        user: UserId,
        before: i64,
        limit: i64,
    ) -> Result<Vec<journal::Entry>, ChangeError> {
        self.read(Some(user), move |connection| {
            Box::pin(async move {
                let entries = journal::page(connection, user, before, limit).await?;
                if entries.is_empty() {
                    // No history, or no user?
                    users::balance(connection, user).await?;
                }
                Ok(entries)
            })
        })
        .await
    }

    /// Looks which of the users' rows are locked.
    pub(crate) async fn look(&self, users: Vec<UserId>) -> Result<Vec<Looked>, ChangeError> {
        self.read(None, move |connection| {
            Box::pin(
                async move { held::look(connection, &users).await.map_err(Failure::before_commit) },
            )
        })
        .await
    }

    /// Waits for running work for `limit` at most, and closes all sessions.
    pub async fn close(&self, limit: Duration) {
        tokio::join!(self.changes.close(limit), self.reads.close(limit));
    }
}
