//! The pools of database sessions.

use std::ops::Add;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Snapshot, durations, set};

/// What the sessions of a pool are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Changes of the approaches that use a session each, and new users.
    Changes,
    /// What only reads.
    Reads,
}

impl PoolKind {
    const ALL: [Self; 2] = [Self::Changes, Self::Reads];

    fn label(self) -> PoolLabel {
        PoolLabel {
            pool: match self {
                Self::Changes => "changes",
                Self::Reads => "reads",
            },
        }
    }
}

/// How much of a pool is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Sessions that may be open.
    pub max: usize,
    /// Sessions that are open, in use or not.
    pub open: usize,
    /// Sessions in use, or being opened for a request.
    pub in_use: usize,
    /// Requests that wait for a session.
    pub waiting: usize,
}

impl Add for PoolUse {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            max: self.max + other.max,
            open: self.open + other.open,
            in_use: self.in_use + other.in_use,
            waiting: self.waiting + other.waiting,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: &'static str,
}

/// The metrics of all pools.
pub(super) struct Pools {
    max: Family<PoolLabel, Gauge>,
    open: Family<PoolLabel, Gauge>,
    in_use: Family<PoolLabel, Gauge>,
    waiting: Family<PoolLabel, Gauge>,
    waits: Family<PoolLabel, Histogram, fn() -> Histogram>,
    work: Family<PoolLabel, Histogram, fn() -> Histogram>,
}

impl Pools {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self {
            max: Family::default(),
            open: Family::default(),
            in_use: Family::default(),
            waiting: Family::default(),
            waits: Family::new_with_constructor(durations),
            work: Family::new_with_constructor(durations),
        };
        for (name, help, gauges) in [
            ("sessions_max", "Database sessions that may be open", &all.max),
            ("sessions_open", "Database sessions that are open", &all.open),
            ("sessions_in_use", "Database sessions that work for a request", &all.in_use),
            ("sessions_waiting", "Requests that wait for a database session", &all.waiting),
        ] {
            registry.register(name, help, gauges.clone());
        }
        registry.register(
            "session_wait_seconds",
            "Time that a request has waited for a database session",
            all.waits.clone(),
        );
        registry.register(
            "session_work_seconds",
            "Time of a request's work on a database session: its statements, with their commit",
            all.work.clone(),
        );
        all
    }

    pub(super) fn counters(&self, kind: PoolKind) -> PoolCounters {
        let label = kind.label();
        let (waits, work) =
            (self.waits.get_or_create_owned(&label), self.work.get_or_create_owned(&label));
        PoolCounters { waits, work }
    }

    pub(super) fn refresh(&self, snapshot: &Snapshot) {
        for (kind, used) in PoolKind::ALL.into_iter().zip(snapshot.pools) {
            let label = kind.label();
            set(&self.max.get_or_create(&label), used.max);
            set(&self.open.get_or_create(&label), used.open);
            set(&self.in_use.get_or_create(&label), used.in_use);
            set(&self.waiting.get_or_create(&label), used.waiting);
        }
    }
}

/// What the pools of one kind measure themselves.
#[derive(Clone, Debug)]
pub struct PoolCounters {
    waits: Histogram,
    work: Histogram,
}

impl PoolCounters {
    /// A request has a session now, or has given up.
    pub(crate) fn observe_wait(&self, wait: Duration) {
        self.waits.observe(wait.as_secs_f64());
    }

    /// The work on a session has ended, however it did.
    pub(crate) fn observe_work(&self, took: Duration) {
        self.work.observe(took.as_secs_f64());
    }
}
