//! Turns: one change at a time for each name, in order of arrival, within this process.
//!
//! Two uses. Changes with the same idempotency key take turns, so that a duplicate's wait is bounded
//! and holds a place in a queue instead of a database connection. And the approaches that retry
//! admit one change of a user at a time, so that they do not lose races to themselves.
//!
//! Nothing rests on it for being exact: between processes only the database decides.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

type Queue = tokio::sync::Mutex<()>;

/// The names that somebody works on right now. Clones share them.
#[derive(Debug)]
pub(super) struct Turns<N>(Arc<Mutex<HashMap<N, Weak<Queue>>>>);

impl<N> Clone for Turns<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N> Default for Turns<N> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The right to work on a name, until it is dropped.
pub(super) struct Turn<N: Eq + Hash> {
    turns: Turns<N>,
    name: N,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<N: Clone + Eq + Hash> Turns<N> {
    /// Waits until nobody else works on the name, for at most `limit`.
    pub(super) async fn take(&self, name: N, limit: Duration) -> Result<Turn<N>, Elapsed> {
        let guard = timeout(limit, self.queue(&name).lock_owned()).await?;
        Ok(Turn { turns: self.clone(), name, guard: Some(guard) })
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

impl<N> Turns<N> {
    fn lock(&self) -> MutexGuard<'_, HashMap<N, Weak<Queue>>> {
        // Nothing that runs under the lock can leave the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Eq + Hash> Drop for Turn<N> {
    fn drop(&mut self) {
        let mut names = self.turns.lock();
        drop(self.guard.take());
        // Those who still wait hold the queue; the last one to leave removes it.
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
        let turns = Turns::default();
        let first = turns.take("a", LONG).await.unwrap();
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take("a", LONG).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap().unwrap();
        assert!(turns.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_bounded_and_other_names_do_not_wait() {
        let turns = Turns::default();
        let first = turns.take("a", LONG).await.unwrap();
        assert!(turns.take("a", LONG).await.is_err());
        drop(turns.take("b", LONG).await.unwrap());
        drop(first);
        drop(turns.take("a", LONG).await.unwrap());
        assert!(turns.lock().is_empty());
    }
}
