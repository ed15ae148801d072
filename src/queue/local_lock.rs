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

use tokio::sync::OwnedMutexGuard;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

type Queue = tokio::sync::Mutex<()>;

/// The locks that are held or waited for. Clones share them.
#[derive(Debug)]
pub(crate) struct LocalLocks<N>(Arc<Mutex<HashMap<N, Weak<Queue>>>>);

impl<N> Clone for LocalLocks<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N> Default for LocalLocks<N> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The lock of one name. Dropping it releases the lock.
pub(crate) struct LocalLock<N: Eq + Hash> {
    locks: LocalLocks<N>,
    name: N,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<N: Clone + Eq + Hash> LocalLocks<N> {
    /// Waits for the lock of the name, for at most `limit`.
    pub(crate) async fn acquire(&self, name: N, limit: Duration) -> Result<LocalLock<N>, Elapsed> {
        match timeout(limit, self.queue(&name).lock_owned()).await {
            Ok(guard) => Ok(LocalLock { locks: self.clone(), name, guard: Some(guard) }),
            Err(elapsed) => {
                self.forget_unused(&name);
                Err(elapsed)
            }
        }
    }

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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
