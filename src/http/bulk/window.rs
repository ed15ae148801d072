//! How much of a stream is read before it is answered, and whether it moves at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use crate::http::room::Room;
use crate::http::wire::{LINE_COST_MIN, WINDOW_BYTES};

/// The lines of a stream that were read and are not answered yet. Clones share it.
#[derive(Clone)]
pub(super) struct Window {
    own: Arc<Semaphore>,
    room: Room,
}

/// Some lines in the window. They leave it when this is dropped.
pub(super) struct InWindow {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Window {
    pub(super) fn new(room: &Room) -> Self {
        Self { own: Arc::new(Semaphore::new(WINDOW_BYTES)), room: room.clone() }
    }

    /// What a line counts: its length, and at least [`LINE_COST_MIN`] for what is made of it.
    pub(super) fn cost(line: &[u8]) -> usize {
        line.len().max(LINE_COST_MIN)
    }

    /// Waits until lines of this cost fit.
    pub(super) async fn admit(&self, cost: usize) -> Option<InWindow> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let own = Arc::clone(&self.own).acquire_many_owned(cost).await.ok()?;
        Some(InWindow { _own: own, _of_all: self.room.for_lines(cost).await? })
    }

    /// Whether every line was answered.
    fn is_empty(&self) -> bool {
        self.own.available_permits() == WINDOW_BYTES
    }
}

/// When a client has last sent or taken anything. Clones share it.
#[derive(Clone)]
pub(super) struct Progress {
    began: Instant,
    /// In microseconds since then.
    last: Arc<AtomicU64>,
    limit: Duration,
}

impl Progress {
    pub(super) fn begin(limit: Duration) -> Self {
        Self { began: Instant::now(), last: Arc::default(), limit }
    }

    pub(super) fn note(&self) {
        let micros = self.began.elapsed().as_micros();
        self.last.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the client will have been still for too long.
    pub(super) fn ends(&self) -> Instant {
        self.began + Duration::from_micros(self.last.load(Ordering::Relaxed)) + self.limit
    }

    /// Resolves when the client has sent nothing for too long, though all its lines are answered.
    pub(super) async fn until_idle(&self, window: &Window) {
        loop {
            if self.ends() > Instant::now() {
                sleep_until(self.ends()).await;
            } else if window.is_empty() {
                return;
            } else {
                // It waits for an answer, or does not take one: then the writer gives it up.
                sleep(self.limit).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    // Outside of a runtime, whose tasks have to yield from time to time.
    #[test]
    fn a_window_admits_what_it_promises_and_no_more() {
        let window = Window::new(&Room::default());
        let lines: usize = 8_192;
        let mut admitted = Vec::new();
        for _ in 0..lines {
            admitted.push(window.admit(Window::cost(b"{}")).now_or_never().flatten().unwrap());
        }
        assert!(window.admit(1).now_or_never().is_none());
        admitted.pop();
        assert!(window.admit(1).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_an_answer_is_not_idle() {
        let window = Window::new(&Room::default());
        let progress = Progress::begin(Duration::from_secs(60));
        let waiting = window.admit(1).await;
        let began = Instant::now();
        let idle = tokio::spawn({
            let (progress, window) = (progress.clone(), window.clone());
            async move { progress.until_idle(&window).await }
        });
        sleep(Duration::from_secs(200)).await;
        assert!(!idle.is_finished());
        drop(waiting);
        progress.note();
        idle.await.unwrap();
        let waited = began.elapsed().as_secs();
        assert!((260..=300).contains(&waited), "{waited}");
    }
}
