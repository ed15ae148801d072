//! The sessions of one thread, its *home*.
//!
//! [`Sessions::perform`] is the only way to a pooled session. It keeps two promises on which the rest
//! is built: a client that hangs up never cancels database work, and no answer waits for ever.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::error::Failure;
use super::pool::{Owner, Pool};
use super::session::{BoxFuture, Connector};
use crate::ledger::ChangeError;
use crate::metrics::sessions::{PoolCounters, PoolUse};

/// A pool on its home: its sessions were opened there, and all work on them runs there. To use a
/// session from another thread would cost a wake-up across threads for each of its messages. Clones
/// share the sessions, and may be used from any thread.
#[derive(Clone, Debug)]
pub struct Sessions {
    home: Handle,
    pool: Pool,
    /// How long to wait for a session.
    wait: Duration,
    /// How long one piece of work may take.
    answer: Duration,
    counters: PoolCounters,
}

impl Sessions {
    /// Opens `size` sessions, on the current runtime. `wait` is how long a piece of work may wait for
    /// one of them.
    ///
    /// # Errors
    /// As the database says.
    pub async fn open(
        connector: &Connector,
        size: u32,
        wait: Duration,
        counters: PoolCounters,
    ) -> Result<Self, sqlx::Error> {
        let pool = Pool::new(connector.clone(), usize::try_from(size).unwrap_or(1));
        pool.fill().await?;
        let (home, answer) = (Handle::current(), connector.limits().answer);
        Ok(Self { home, pool, wait, answer, counters })
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
    pub async fn perform<T, W>(&self, owner: Owner, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>
            + Send
            + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let (pool, wait, limit) = (self.pool.clone(), self.wait, self.answer);
        let counters = self.counters.clone();
        self.spawn(async move {
            let asked = Instant::now();
            let leased = pool.lease(owner, wait).await;
            let began = Instant::now();
            counters.observe_wait(began.duration_since(asked));
            let mut lease = match leased {
                Ok(lease) => lease,
                Err(failure) => return drop(answer.send(Err(failure))),
            };
            let Some(session) = lease.take() else { return };
            let (result, spent) = session.run(limit, work).await;
            counters.observe_work(began.elapsed());
            drop(answer.send(result));
            lease.put_back(match spent {
                Some(spent) => spent.recover().await,
                None => None,
            });
        });
        // The task panicked, or its runtime has ended: the work may have been applied.
        outcome.await.unwrap_or_else(|gone| Err(Failure::Unknown(gone.into())))
    }

    /// Performs work that only reads. It changes nothing however it ends, so nothing is unknown.
    ///
    /// # Errors
    /// As [`perform`](Self::perform), for the caller.
    pub async fn read<T, W>(&self, owner: Owner, work: W) -> Result<T, ChangeError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>
            + Send
            + 'static,
    {
        self.perform(owner, work).await.map_err(|failure| match failure {
            Failure::Unknown(cause) => ChangeError::NotApplied(cause),
            other => other.into(),
        })
    }

    /// How long a piece of work may wait for a session.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// How much of the pool is used at the moment.
    pub(super) fn used(&self) -> PoolUse {
        self.pool.used()
    }

    /// Runs a task on the home of the sessions.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.home.spawn(task));
    }

    /// Waits for running work for `limit` at most, and closes all sessions.
    pub async fn close(&self, limit: Duration) {
        self.pool.close(limit).await;
    }
}
