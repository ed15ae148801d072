//! What all clients of a load share: whom they talk to and about, the clock, and when to end.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::counts::Counters;
use super::draw::Cast;
use super::holds::KnownHolds;
use crate::client::Client;

/// Until the end is near, no deadline.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Shared {
    /// One for each target, in their order.
    pub(super) instances: Vec<Client>,
    pub(super) approaches: Vec<&'static str>,
    pub(super) cast: Cast,
    pub(super) holds: KnownHolds,
    pub(super) answer_limit: Duration,
    pub(super) counters: Counters,
    pub(super) pace: Pace,
    pub(super) clock: Clock,
    pub(super) stop: Stop,
}

/// Nanoseconds since the beginning of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(pub(super) std::time::Instant);

impl Clock {
    pub(super) fn now(self) -> u64 {
        nanos(self.0.elapsed())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How the clients are told to come to an end.
#[derive(Debug)]
pub(super) struct Stop {
    stopping: AtomicBool,
    /// By the clock of the run: until then, operations with a key are sent again.
    deadline: AtomicU64,
}

impl Stop {
    pub(super) fn new() -> Self {
        Self { stopping: AtomicBool::new(false), deadline: AtomicU64::new(NEVER) }
    }

    /// No client begins anything new.
    pub(super) fn begin(&self, clock: Clock, patience: Duration) {
        let deadline = clock.now().saturating_add(nanos(patience));
        self.deadline.store(deadline, Ordering::Relaxed);
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether there is no time left for another attempt.
    pub(super) fn is_over(&self, clock: Clock) -> bool {
        clock.now() >= self.deadline.load(Ordering::Relaxed)
    }
}

/// How many steps there may be, and how fast they follow each other.
#[derive(Debug)]
pub(super) struct Pace {
    left: Option<AtomicUsize>,
    /// Nanoseconds from one step to the next; 0: as fast as the clients can.
    interval: u64,
    /// When the next step is due, by the clock of the run.
    due: AtomicU64,
}

impl Pace {
    pub(super) fn of(steps_max: Option<usize>, per_second: Option<u32>) -> Self {
        Self {
            left: steps_max.map(AtomicUsize::new),
            interval: per_second.map_or(0, |many| 1_000_000_000 / u64::from(many.max(1))),
            due: AtomicU64::new(0),
        }
    }
}

impl Shared {
    /// Waits until a client may begin its next step. False if there is none.
    pub(super) async fn may_go_on(&self) -> bool {
        let Pace { left, interval, due } = &self.pace;
        if self.stop.has_begun() {
            return false;
        }
        if let Some(left) = left {
            let less = |left: usize| left.checked_sub(1);
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
                return false;
            }
        }
        if *interval > 0 {
            let now = self.clock.now();
            // What was not sent in time is not made up for.
            let next = |due: u64| Some(due.max(now) + interval);
            let before = due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
            let mine = before.unwrap_or_else(|due| due).max(now);
            sleep(Duration::from_nanos(mine - now)).await;
        }
        !self.stop.has_begun()
    }

    /// The moment when a request that begins now has had its time.
    pub(super) fn give_up(&self) -> Instant {
        Instant::now() + self.answer_limit
    }
}
