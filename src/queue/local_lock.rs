//! Local locks: one holder at a time for each name, in order of arrival, within this process.
//!
//! They have two uses. Changes with the same idempotency key run one after the other, so a
//! duplicate's wait is bounded and takes a place in a queue instead of a database session. And the
//! approaches that retry admit one change of a user at a time, so they do not lose races to
//! themselves.
//!
//! Exactness does not depend on them: between processes only the database decides.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::timeout;

use super::shares::{Holders, Shares};
use crate::ledger::{ChangeError, UserId};

type Queue = tokio::sync::Mutex<()>;

/// The most that wait, for all locks together: one for each HTTP connection, where there are as many as by
/// default. One user has a share of these places, as in every queue.
const WAITING_MAX: usize = 16_384;

/// The locks that are held or waited for. Clones share them.
#[derive(Debug)]
pub(crate) struct LocalLocks<N>(Arc<Inner<N>>);

#[derive(Debug)]
struct Inner<N> {
    names: Mutex<HashMap<N, Weak<Queue>>>,
    waiting: Semaphore,
    shares: Shares,
}

impl<N> Clone for LocalLocks<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N> Default for LocalLocks<N> {
    fn default() -> Self {
        Self::with_room_for(WAITING_MAX)
    }
}

impl<N> LocalLocks<N> {
    fn with_room_for(waiting: usize) -> Self {
        let (shares, names) = (Shares::of(waiting), Mutex::default());
        Self(Arc::new(Inner { names, waiting: Semaphore::new(waiting), shares }))
    }
}

/// A name that belongs to a user.
pub(crate) trait OfUser {
    /// The user.
    fn user(&self) -> UserId;
}

impl OfUser for UserId {
    fn user(&self) -> UserId {
        *self
    }
}

impl<T> OfUser for (UserId, T) {
    fn user(&self) -> UserId {
        self.0
    }
}

#[cfg(test)]
impl OfUser for &str {
    fn user(&self) -> UserId {
        UserId::FIRST
    }
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum NoLock {
    /// Others held it for too long.
    TimedOut,
    /// Too many wait already, or too many of this user.
    TooMany,
}

impl NoLock {
    /// The error for the caller, where `timed_out` is that of a wait that was too long.
    pub(crate) fn or(self, timed_out: ChangeError) -> ChangeError {
        match self {
            Self::TimedOut => timed_out,
            Self::TooMany => ChangeError::Busy("too many wait for others of their key or user"),
        }
    }
}

/// The lock of one name. Dropping it releases the lock.
pub(crate) struct LocalLock<N: Eq + Hash> {
    locks: LocalLocks<N>,
    name: N,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<N: Clone + Eq + Hash + OfUser> LocalLocks<N> {
    /// Waits for the lock of the name, for at most `limit`.
    ///
    /// # Errors
    /// [`NoLock::TooMany`] at once, [`NoLock::TimedOut`] later.
    pub(crate) async fn acquire(&self, name: N, limit: Duration) -> Result<LocalLock<N>, NoLock> {
        let queue = self.queue(&name);
        let guard = match Arc::clone(&queue).try_lock_owned() {
            Ok(guard) => Ok(guard),
            Err(_) => self.wait(name.user(), queue, limit).await,
        };
        match guard {
            Ok(guard) => Ok(LocalLock { locks: self.clone(), name, guard: Some(guard) }),
            Err(none) => {
                self.forget_unused(&name);
                Err(none)
            }
        }
    }

    async fn wait(
        &self,
        user: UserId,
        queue: Arc<Queue>,
        limit: Duration,
    ) -> Result<OwnedMutexGuard<()>, NoLock> {
        let Inner { waiting, shares, .. } = &*self.0;
        let _place = waiting.try_acquire().map_err(|_| NoLock::TooMany)?;
        let holders = Holders { owner: user, payee: None };
        let _share = shares.try_take_all(vec![holders]).ok_or(NoLock::TooMany)?;
        timeout(limit, queue.lock_owned()).await.map_err(|_| NoLock::TimedOut)
    }
}

impl<N: Clone + Eq + Hash> LocalLocks<N> {
    /// Takes the lock of the name if nobody holds it or waits for it.
    pub(crate) fn try_acquire(&self, name: N) -> Option<LocalLock<N>> {
        match self.queue(&name).try_lock_owned() {
            Ok(guard) => Some(LocalLock { locks: self.clone(), name, guard: Some(guard) }),
            Err(_) => {
                self.forget_unused(&name);
                None
            }
        }
    }

    /// The holder may have dropped the lock while this thread had its queue for a moment, and so have left
    /// it in the map.
    fn forget_unused(&self, name: &N) {
        let mut names = self.lock();
        if names.get(name).is_some_and(|queue| queue.strong_count() == 0) {
            names.remove(name);
        }
    }

    fn queue(&self, name: &N) -> Arc<Queue> {
        let mut names = self.lock();
        if let Some(queue) = names.get(name).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = Arc::new(Queue::default());
        names.insert(name.clone(), Arc::downgrade(&queue));
        queue
    }
}

impl<N> LocalLocks<N> {
    fn lock(&self) -> MutexGuard<'_, HashMap<N, Weak<Queue>>> {
        // Nothing that runs under the lock can leave the map half-changed.
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Eq + Hash> Drop for LocalLock<N> {
    fn drop(&mut self) {
        let mut names = self.locks.lock();
        drop(self.guard.take());
        // A waiter keeps the queue alive; the last holder removes it.
        if names.get(&self.name).is_some_and(|queue| queue.strong_count() == 0) {
            names.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_nothing_is_left_behind() {
        let locks = LocalLocks::default();
        let first = locks.acquire("a", LONG).await.unwrap();
        let second = tokio::spawn({
            let locks = locks.clone();
            async move { locks.acquire("a", LONG).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap().unwrap();
        assert!(locks.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_has_a_share_of_the_waiting_places_and_the_others_have_the_rest() {
        let locks = LocalLocks::with_room_for(4);
        let name = |user, key| (UserId::new(user).unwrap(), key);
        let mut held = Vec::new();
        for user in 1..=3 {
            held.push(locks.acquire(name(user, "a"), LONG).await.unwrap());
        }
        let wait = |user| {
            let locks = locks.clone();
            tokio::spawn(async move { locks.acquire(name(user, "a"), LONG).await.map(drop) })
        };
        let refused_at_once = async |task: tokio::task::JoinHandle<Result<(), NoLock>>| {
            matches!(task.await.unwrap(), Err(NoLock::TooMany))
        };
        let mut waiting = vec![wait(1), wait(1), wait(1)];
        tokio::task::yield_now().await;
        assert!(refused_at_once(wait(1)).await, "the user's share");
        waiting.push(wait(2));
        tokio::task::yield_now().await;
        assert!(refused_at_once(wait(3)).await, "all places");
        drop(locks.acquire(name(3, "b"), LONG).await.unwrap());
        held.clear();
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        drop(locks.acquire(name(1, "a"), LONG).await.unwrap());
        assert!(locks.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_bounded_and_other_names_do_not_wait() {
        let locks = LocalLocks::default();
        let first = locks.acquire("a", LONG).await.unwrap();
        assert!(locks.acquire("a", LONG).await.is_err());
        drop(locks.acquire("b", LONG).await.unwrap());
        drop(first);
        drop(locks.acquire("a", LONG).await.unwrap());
        assert!(locks.lock().is_empty());
    }
}
