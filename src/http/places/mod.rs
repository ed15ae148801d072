//! Places for connections, and which connections leave when none is free.
//!
//! A limited number of connections may be open. When one more comes, those that have rested longest
//! are asked to leave: silent ones, ones with half a head, ones kept alive between two requests, ones
//! whose client does not take its last answer. So nobody can lock others out by holding connections.
//! A connection that answers a request stays.
//!
//! The loop that accepts connections owns [`Places`]; each connection holds its [`Place`]. A request
//! costs no more than two stores into its own [`Pause`].

mod place;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;
use std::vec;

use tokio::time::{Instant, timeout};
use tracing::warn;

use self::place::{Pause, Shared};

pub(super) use self::place::Place;

/// After this time without a change, more connections are asked to leave. None of them may have
/// rested at the last attempt, or a busy thread has not come to close them yet.
const PATIENCE: Duration = Duration::from_millis(50);

/// The most connections that are asked to leave at once. More than one, so that a flood of new
/// connections need not wait for each of them.
const ASKED_MAX: usize = 64;

/// One connection in so many is asked to leave at once.
const ASKED_SHARE: usize = 64;

/// A shortage is logged no more often than this.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// All places, and the connections that have taken them.
pub(super) struct Places {
    shared: Arc<Shared>,
    /// The zero of all [`Pause`]s, so that they can be compared.
    started: Instant,
    /// Ordered by when they opened. Closed ones stay until the next sweep.
    open: Vec<Weak<Pause>>,
    /// The length of `open` at which it is swept: what a sweep costs is paid by those who came since.
    sweep_at: usize,
    /// What is left of the last search, longest pause first. It remains right: connections that are
    /// not in it began to rest later, and one that was used since has another `began`.
    resting: vec::IntoIter<(u64, Weak<Pause>)>,
    /// Connections that were asked to leave, and have neither closed nor declined yet.
    asked: Vec<Weak<Pause>>,
    warned: Option<Instant>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            shared: Arc::new(Shared::new(count)),
            started: Instant::now(),
            open: Vec::new(),
            sweep_at: ASKED_MAX,
            resting: Vec::new().into_iter(),
            asked: Vec::new(),
            warned: None,
        }
    }

    /// Takes a place, and makes room for it where none is free.
    pub(super) async fn take(&mut self) -> Place {
        // Nobody else takes places, so one that is free stays free.
        while !self.shared.has_free() {
            if self.may_warn() {
                warn!("MAX_CONNECTIONS are open: closing those that have rested longest");
            }
            self.make_room().await;
        }
        if self.open.len() >= self.sweep_at {
            self.sweep();
        }
        let place = Place::take(&self.shared, self.started);
        self.open.push(Arc::downgrade(place.pause()));
        place
    }

    /// Asks connections to leave, and waits for one of them, but not for long: they may all be
    /// answering requests.
    pub(super) async fn make_room(&mut self) {
        self.asked.retain(|pause| pause.upgrade().is_some_and(|pause| pause.is_asked()));
        if self.asked.is_empty() {
            self.ask();
        }
        if timeout(PATIENCE, self.shared.changed()).await.is_err() {
            self.asked.clear();
        }
    }

    /// Whether a shortage should be logged now.
    pub(super) fn may_warn(&mut self) -> bool {
        let may = self.warned.is_none_or(|last| last.elapsed() >= WARNING_PERIOD);
        if may {
            self.warned = Some(Instant::now());
        }
        may
    }

    fn ask(&mut self) {
        let count = (self.open.len() / ASKED_SHARE).clamp(1, ASKED_MAX);
        let mut has_searched = false;
        while self.asked.len() < count {
            if let Some((began, pause)) = self.resting.next() {
                if pause.upgrade().is_some_and(|pause| pause.ask_to_leave(began)) {
                    self.asked.push(pause);
                }
            } else if has_searched {
                return;
            } else {
                self.search();
                has_searched = true;
            }
        }
    }

    fn search(&mut self) {
        self.sweep();
        let resting = self.open.iter().filter_map(|weak| {
            let pause = weak.upgrade()?;
            // One that was asked leaves as soon as its thread gets to it: no need to ask again.
            let began = pause.began().filter(|_| !pause.is_asked())?;
            Some((began, Weak::clone(weak)))
        });
        let mut resting: Vec<_> = resting.collect();
        // Stable: of equal ones the connection that opened first leaves first.
        resting.sort_by_key(|(began, _)| *began);
        self.resting = resting.into_iter();
    }

    fn sweep(&mut self) {
        self.open.retain(|pause| pause.strong_count() > 0);
        self.sweep_at = self.open.len() * 2 + ASKED_MAX;
    }
}
