//! Approaches that use a database session for each change: where they get it, and what happens when
//! an attempt fails.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use sqlx::PgConnection;

use super::turns::Turns;
use super::{Approach, Shared, detached};
use crate::balance::{Change, ChangeError, Outcome, UserId};
use crate::metrics::Tally;
use crate::store::error::Failure;
use crate::store::held::{HeldUsers, Patience};
use crate::store::retry::{Attempts, Policy};
use crate::store::{BoxFuture, Store};

/// An approach that does its work on one session per attempt.
pub(super) trait Pooled: Send + Sync + Default + 'static {
    /// For how long a lost race is attempted again. The default is for races that are rare: a
    /// deadlock, or a key that another process used in the meantime.
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

/// For approaches that lose every race on a row that others keep busy: long enough to outlast a
/// burst of 10,000 changes on a slow disk, and then it is "not applied".
pub(super) const LONG_RACE: Policy = Policy {
    limit: Duration::from_secs(100),
    pause: Duration::from_millis(1),
    pause_max: Duration::from_millis(100),
};

/// Gives a [`Pooled`] approach its sessions.
pub(super) struct OnPool<A> {
    approach: Arc<A>,
    store: Store,
    held: HeldUsers,
    retries: Counter,
}

impl<A: Pooled> OnPool<A> {
    pub(super) fn new(store: &Store, shared: &Shared, tally: &Tally) -> Self {
        let (store, held) = (store.clone(), shared.held.clone());
        Self { approach: Arc::default(), store, held, retries: tally.tries_repeated.clone() }
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
    /// Attempts until the change is decided, or there is no more time. Each attempt has a session of
    /// its own: none is held during a pause, or while somebody else holds the user's row.
    ///
    /// `patience` began when the change arrived.
    async fn decide(self, change: Change, mut patience: Patience) -> Result<Outcome, ChangeError> {
        let mut attempts = Attempts::new(A::POLICY);
        loop {
            self.held.pass(change.user, &patience).await?;
            match self.attempt(change.clone()).await {
                Err(Failure::Race(_)) if attempts.again().await => {}
                Err(Failure::Locked(_)) => {
                    self.held.mark(change.user, &self.store, &mut patience);
                }
                // The user was marked while this change waited for a session.
                Ok(None) if patience.elapsed() < self.store.wait() => continue,
                Ok(None) => return Err(ChangeError::NotApplied("it waited for too long".into())),
                Ok(Some(outcome)) => return Ok(outcome),
                Err(failure) => return Err(failure.into()),
            }
            self.retries.inc();
        }
    }

    /// One attempt; `None` where it would only wait for a row that is known to be held.
    async fn attempt(&self, change: Change) -> Result<Option<Outcome>, Failure> {
        let (approach, held) = (Arc::clone(&self.approach), self.held.clone());
        let attempt = self.store.perform(Some(change.user), move |connection| {
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
        Box::pin(self.clone().decide(change, Patience::begin()))
    }
}

/// A [`Pooled`] approach that lets one change of a user into its attempts at a time, in order of
/// arrival. The others wait without a session.
pub(super) struct Admitted<A> {
    inner: OnPool<A>,
    users: Turns<UserId>,
    wait: Duration,
}

impl<A: Pooled> Admitted<A> {
    pub(super) fn new(store: &Store, shared: &Shared, tally: &Tally) -> Self {
        let inner = OnPool::new(store, shared, tally);
        Self { inner, users: shared.racers.clone(), wait: shared.options.admission_wait }
    }
}

impl<A: Pooled> Approach for Admitted<A> {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let (users, wait, inner) = (self.users.clone(), self.wait, self.inner.clone());
        Box::pin(detached(async move {
            let patience = Patience::begin();
            let turn = users.take(change.user, wait).await;
            let _turn = turn.map_err(|elapsed| ChangeError::NotApplied(elapsed.into()))?;
            inner.decide(change, patience).await
        }))
    }
}
