//! Local locks that the parts of one request share.
//!
//! A request with many changes takes the lock of each key that it has. A key may come twice in it: the
//! second change must not wait for the first one's lock, since both are decided together and in order.
//! So the request holds each lock once, for as long as any of its changes needs it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::local_lock::{LocalLock, LocalLocks};

/// The locks that one request holds. Clones belong to the same request.
pub(crate) struct SharedLocks<N: Clone + Eq + Hash> {
    locks: LocalLocks<N>,
    held: Arc<Mutex<HashMap<N, Held<N>>>>,
}

struct Held<N: Clone + Eq + Hash> {
    /// Released when it is dropped.
    _lock: LocalLock<N>,
    /// How many [`SharedLock`]s there are.
    count: usize,
}

/// A share of a lock. Dropping the last one releases the lock.
pub(crate) struct SharedLock<N: Clone + Eq + Hash> {
    locks: SharedLocks<N>,
    name: N,
}

impl<N: Clone + Eq + Hash> Clone for SharedLocks<N> {
    fn clone(&self) -> Self {
        Self { locks: self.locks.clone(), held: Arc::clone(&self.held) }
    }
}

impl<N: Clone + Eq + Hash> SharedLocks<N> {
    /// For a new request.
    pub(crate) fn new(locks: &LocalLocks<N>) -> Self {
        Self { locks: locks.clone(), held: Arc::default() }
    }

    /// Takes the lock of the name without waiting, or shares it where this request holds it. `None`
    /// where another request holds it or waits for it.
    pub(crate) fn try_acquire(&self, name: N) -> Option<SharedLock<N>> {
        // Sharing and releasing exclude each other: a lock that is about to be released is not
        // mistaken for another request's.
        let mut held = self.held();
        match held.get_mut(&name) {
            Some(held) => held.count += 1,
            None => {
                let lock = self.locks.try_acquire(name.clone())?;
                held.insert(name.clone(), Held { _lock: lock, count: 1 });
            }
        }
        Some(SharedLock { locks: self.clone(), name })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<N, Held<N>>> {
        // Nothing that runs under the lock can leave the map half-changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Clone + Eq + Hash> Drop for SharedLock<N> {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        let Some(shared) = held.get_mut(&self.name) else { return };
        shared.count -= 1;
        if shared.count == 0 {
            held.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_request_shares_its_locks_with_itself_only() {
        let all = LocalLocks::default();
        let (one, other) = (SharedLocks::new(&all), SharedLocks::new(&all));
        let first = one.try_acquire("a").unwrap();
        let second = one.clone().try_acquire("a").unwrap();
        assert!(other.try_acquire("a").is_none());
        assert!(other.try_acquire("b").is_some());
        drop(first);
        assert!(other.try_acquire("a").is_none(), "the second still needs it");
        drop(second);
        assert!(other.try_acquire("a").is_some());
        assert!(one.held().is_empty() && other.held().is_empty());
    }

    #[tokio::test]
    async fn a_lock_that_somebody_waits_for_is_not_taken() {
        let all = LocalLocks::default();
        let minute = Duration::from_secs(60);
        let held = all.acquire("a", minute).await.unwrap();
        assert!(SharedLocks::new(&all).try_acquire("a").is_none());
        let waiting = tokio::spawn({
            let all = all.clone();
            async move { all.acquire("a", minute).await }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(SharedLocks::new(&all).try_acquire("a").is_none(), "it is the waiter's turn");
        drop(waiting.await.unwrap().unwrap());
        assert!(SharedLocks::new(&all).try_acquire("a").is_some());
    }
}
