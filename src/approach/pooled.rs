//! Approaches that use a database session for each change: where the session comes from, and what
//! happens when an attempt fails.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use super::Approach;
use crate::ledger::{Change, ChangeError, Outcome, UserId};
use crate::queue::local_lock::LocalLocks;
use crate::store::Store;
use crate::store::error::Failure;
use crate::store::held::{HeldUsers, RowWait};
use crate::store::hold_expiry;
use crate::store::retry::{Attempts, Policy};
use crate::store::session::BoxFuture;

/// An approach that does its work on one session per attempt.
pub(super) trait Pooled: Send + Sync + Default + 'static {
    /// For how long a lost race is attempted again. The default is for rare races: a deadlock, or a
    /// key that another process used in the meantime.
    const POLICY: Policy = Policy {
        limit: Duration::from_secs(5),
        pause: Duration::from_millis(2),
        pause_max: Duration::from_millis(100),
    };

    /// Makes one attempt.
    fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> impl Future<Output = Result<Outcome, Failure>> + Send;
}

/// For approaches that lose every race on a row that others keep busy. It outlasts a burst of 10,000
/// changes on a slow disk; after that the answer is "not applied".
pub(super) const LONG_RACE: Policy = Policy {
    limit: Duration::from_secs(100),
    pause: Duration::from_millis(1),
    pause_max: Duration::from_millis(100),
};

/// Gives a [`Pooled`] approach its sessions. Clones share them.
pub(super) struct OnPool<A> {
    approach: Arc<A>,
    store: Store,
    held: HeldUsers,
    retries: Counter,
}

impl<A: Pooled> OnPool<A> {
    pub(super) fn new(store: &Store, held: &HeldUsers, retries: &Counter) -> Self {
        let (store, held) = (store.clone(), held.clone());
        Self { approach: Arc::default(), store, held, retries: retries.clone() }
    }
}

// By hand: the approach itself need not be `Clone`.
impl<A> Clone for OnPool<A> {
    fn clone(&self) -> Self {
        Self {
            approach: Arc::clone(&self.approach),
            store: self.store.clone(),
            held: self.held.clone(),
            retries: self.retries.clone(),
        }
    }
}

impl<A: Pooled> OnPool<A> {
    /// Makes attempts until the change is decided or the time is over. Each attempt has a session of
    /// its own: none is held during a pause, or while another transaction holds the user's row.
    ///
    /// `wait` began when the change arrived.
    async fn run(self, change: Change, mut wait: RowWait) -> Result<Outcome, ChangeError> {
        let mut attempts = Attempts::new(A::POLICY);
        loop {
            self.held.wait_while_marked(change.user, &wait).await?;
            let attempted = match self.attempt(change.clone()).await {
                Err(Failure::HoldsExpired) => self.release_expired_holds(change.user).await,
                attempted => attempted,
            };
            match attempted {
                Err(Failure::Race(_)) if attempts.again().await => {}
                Err(Failure::Locked(_)) => {
                    self.held.mark(change.user, self.store.reads(), &mut wait);
                }
                // The user was marked while this change waited for a session, or expired holds were
                // released.
                Ok(None) if wait.elapsed() < self.store.changes().wait() => continue,
                Ok(None) => return Err(ChangeError::NotApplied("it waited for too long".into())),
                Ok(Some(outcome)) => return Ok(outcome),
                Err(failure) => return Err(failure.into()),
            }
            self.retries.inc();
        }
    }

    /// `None`: the change has to be attempted again.
    async fn release_expired_holds(&self, user: UserId) -> Result<Option<Outcome>, Failure> {
        let releasing = self.store.changes().perform(Some(user), move |connection| {
            Box::pin(hold_expiry::release(connection, user, None))
        });
        match releasing.await {
            Ok(_) => Ok(None),
            // Nothing of the change itself was sent.
            Err(Failure::Unknown(cause)) => Err(Failure::NotSent(cause)),
            Err(failure) => Err(failure),
        }
    }

    /// One attempt; `None` where it would only wait for a row that is known to be held.
    async fn attempt(&self, change: Change) -> Result<Option<Outcome>, Failure> {
        let (approach, held) = (Arc::clone(&self.approach), self.held.clone());
        let attempt = self.store.changes().perform(Some(change.user), move |connection| {
            Box::pin(async move {
                if held.is_marked(change.user) {
                    return Ok(None);
                }
                approach.attempt(connection, &change).await.map(Some)
            })
        });
        attempt.await
    }
}

impl<A: Pooled> Approach for OnPool<A> {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        Box::pin(self.clone().run(change, RowWait::begin()))
    }
}

/// A [`Pooled`] approach that admits one change of a user to its attempts at a time, in order of
/// arrival. The others wait without a session.
pub(super) struct Admitted<A> {
    inner: OnPool<A>,
    users: LocalLocks<UserId>,
    wait: Duration,
}

impl<A: Pooled> Admitted<A> {
    /// A change waits for `wait` at most until it is admitted.
    pub(super) fn new(inner: OnPool<A>, users: &LocalLocks<UserId>, wait: Duration) -> Self {
        Self { inner, users: users.clone(), wait }
    }
}

impl<A: Pooled> Approach for Admitted<A> {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let (users, limit, inner) = (self.users.clone(), self.wait, self.inner.clone());
        Box::pin(detached(async move {
            let wait = RowWait::begin();
            let lock = users.acquire(change.user, limit).await;
            let too_late =
                || ChangeError::NotApplied("earlier changes of the user take long".into());
            let _lock = lock.map_err(|none| none.or(too_late()))?;
            inner.run(change, wait).await
        }))
    }
}

/// Runs to completion even if the caller is dropped.
pub(super) async fn detached(
    work: impl Future<Output = Result<Outcome, ChangeError>> + Send + 'static,
) -> Result<Outcome, ChangeError> {
    let task: JoinHandle<_> = tokio::spawn(work);
    // The task panicked: the change may have been applied.
    task.await.unwrap_or_else(|panic| Err(ChangeError::OutcomeUnknown(panic.into())))
}
