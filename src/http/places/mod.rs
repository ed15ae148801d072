//! Limits the open connections, and closes idle ones when no place is free.
//!
//! When a connection comes and no place is free, those that were idle longest are asked to leave.
//! An idle connection is silent, has sent half a head, is kept alive between two requests, or has a
//! client that does not read the last response. So no client can lock others out by holding
//! connections. A connection that is serving a request stays. If all of them are, the newcomer is refused.
//!
//! The accepting loop owns [`Places`]; each connection holds its [`Place`]. An HTTP request costs
//! two stores into its connection's own [`Pause`].

mod place;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;
use std::vec;

use tokio::time::{Instant, timeout};
use tracing::warn;

use self::place::Shared;

pub(super) use self::place::{Patience, Pause, Place};

/// The time without a change after which more connections are asked to leave. Perhaps none was idle
/// at the last attempt, or a busy thread has not closed them yet.
const PATIENCE: Duration = Duration::from_millis(50);

/// The most connections that are asked to leave at once. More than one, so that a flood of new
/// connections does not wait for one after the other.
const ASKED_MAX: usize = 64;

/// One in this many connections is asked to leave at once.
const ASKED_SHARE: usize = 64;

/// After a search has found no idle connection, the next one is so much later: a search takes time, and
/// newcomers are refused meanwhile.
const SEARCH_PAUSE: Duration = Duration::from_millis(10);

/// The shortest time between two log lines about a shortage.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// All places, and the connections that hold them.
pub(super) struct Places {
    shared: Arc<Shared>,
    /// The common time zero of all [`Pause`]s, so that they can be compared.
    started: Instant,
    /// In the order in which they opened. A closed one stays until the next sweep.
    open: Vec<Weak<Pause>>,
    /// The length of `open` that starts a sweep. The connections since the last sweep pay for it.
    sweep_at: usize,
    /// The rest of the last search, longest pause first. It stays valid: connections not in it
    /// became idle later, and one that was used since has another `began`.
    idle: vec::IntoIter<(u64, Weak<Pause>)>,
    /// Connections that were asked to leave and have neither closed nor declined yet.
    asked: Vec<Weak<Pause>>,
    /// The last search in vain.
    all_busy_at: Option<Instant>,
    warned: Option<Instant>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            shared: Arc::new(Shared::new(count)),
            started: Instant::now(),
            open: Vec::new(),
            sweep_at: ASKED_MAX,
            idle: Vec::new().into_iter(),
            asked: Vec::new(),
            all_busy_at: None,
            warned: None,
        }
    }

    /// Takes a place. Makes room first if none is free. `None` at once if every connection serves a
    /// request.
    pub(super) async fn take(&mut self) -> Option<Place> {
        // Nothing else takes places, so a free place stays free.
        while !self.shared.has_free() {
            if self.may_warn() {
                warn!("MAX_CONNECTIONS are open: closing those that have rested longest");
            }
            if !self.make_room().await {
                return None;
            }
        }
        if self.open.len() >= self.sweep_at {
            self.sweep();
        }
        let place = Place::take(&self.shared, self.started);
        self.open.push(Arc::downgrade(place.pause()));
        Some(place)
    }

    /// Asks idle connections to leave, and waits for one of them. The wait is short, because these may
    /// have begun to serve requests. `false` at once if none is idle.
    pub(super) async fn make_room(&mut self) -> bool {
        self.asked.retain(|pause| pause.upgrade().is_some_and(|pause| pause.is_asked()));
        if self.asked.is_empty() {
            self.ask();
        }
        if self.asked.is_empty() {
            return false;
        }
        if timeout(PATIENCE, self.shared.changed()).await.is_err() {
            self.asked.clear();
        }
        true
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
            if let Some((began, pause)) = self.idle.next() {
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
        if self.all_busy_at.is_some_and(|last| last.elapsed() < SEARCH_PAUSE) {
            return;
        }
        self.sweep();
        let idle = self.open.iter().filter_map(|weak| {
            let pause = weak.upgrade()?;
            // A connection that was asked leaves when its thread polls it: do not ask again.
            let began = pause.began().filter(|_| !pause.is_asked())?;
            Some((began, Weak::clone(weak)))
        });
        let mut idle: Vec<_> = idle.collect();
        // The sort is stable: of equal pauses, the connection that opened first leaves first.
        idle.sort_by_key(|(began, _)| *began);
        self.all_busy_at = idle.is_empty().then(Instant::now);
        self.idle = idle.into_iter();
    }

    fn sweep(&mut self) {
        self.open.retain(|pause| pause.strong_count() > 0);
        self.sweep_at = self.open.len() * 2 + ASKED_MAX;
    }
}
