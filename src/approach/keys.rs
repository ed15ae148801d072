//! Changes with the same key, one after the other within this process.
//!
//! The database alone makes sure that a key is used once. This registry only makes the wait of a
//! duplicate short and bounded: instead of a database connection it holds a place in a queue, and
//! when the first one takes too long it is told so. Between processes the locks of the database do
//! the waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use crate::balance::{ChangeError, Key, UserId};

type Name = (UserId, Key);
type Queue = tokio::sync::Mutex<()>;

/// The keys that are in use right now. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningKeys(Arc<Mutex<HashMap<Name, Weak<Queue>>>>);

/// The right to work on a key, until it is dropped.
pub(super) struct Turn {
    keys: RunningKeys,
    name: Name,
    guard: Option<OwnedMutexGuard<()>>,
}

impl RunningKeys {
    /// Waits until nobody else works on the key.
    ///
    /// # Errors
    /// [`ChangeError::KeyInProgress`] when that takes longer than `limit`.
    pub(super) async fn turn(
        &self,
        user: UserId,
        key: Key,
        limit: Duration,
    ) -> Result<Turn, ChangeError> {
        let name = (user, key);
        let queue = self.queue(&name);
        match timeout(limit, queue.lock_owned()).await {
            Ok(guard) => Ok(Turn { keys: self.clone(), name, guard: Some(guard) }),
            Err(_) => Err(ChangeError::KeyInProgress),
        }
    }

    fn queue(&self, name: &Name) -> Arc<Queue> {
        let mut keys = self.lock();
        if let Some(queue) = keys.get(name).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = Arc::new(Queue::default());
        keys.insert(name.clone(), Arc::downgrade(&queue));
        queue
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Weak<Queue>>> {
        // Nothing that runs under the lock can leave the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut keys = self.keys.lock();
        drop(self.guard.take());
        // Those who still wait hold the queue; the last one to leave removes it.
        if keys.get(&self.name).is_some_and(|queue| queue.strong_count() == 0) {
            keys.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn name() -> (UserId, Key) {
        (UserId::FIRST, Key::new("k").unwrap())
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_nothing_is_left_behind() {
        let keys = RunningKeys::default();
        let (user, key) = name();
        let first = keys.turn(user, key.clone(), LONG).await.unwrap();
        let second = tokio::spawn({
            let keys = keys.clone();
            async move { keys.turn(user, key, LONG).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap().unwrap();
        assert!(keys.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_bounded_and_other_keys_do_not_wait() {
        let keys = RunningKeys::default();
        let (user, key) = name();
        let first = keys.turn(user, key.clone(), LONG).await.unwrap();
        let second = keys.turn(user, key.clone(), LONG).await;
        assert!(matches!(second, Err(ChangeError::KeyInProgress)));
        let other = Key::new("other").unwrap();
        drop(keys.turn(user, other, LONG).await.unwrap());
        drop(first);
        drop(keys.turn(user, key, LONG).await.unwrap());
        assert!(keys.lock().is_empty());
    }
}
