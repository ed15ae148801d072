//! The queues of the lanes, their batches, and their restarts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{QueueUse, Snapshot, durations, set};

/// What a lane decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    Changes,
    Operations,
}

/// The metrics of all lanes.
pub(super) struct Lanes {
    batch_changes: Histogram,
    batch_operations: Histogram,
    waits: Family<LaneLabel, Histogram, fn() -> Histogram>,
    batches: Family<LaneLabel, Histogram, fn() -> Histogram>,
    restarts: Family<LaneLabel, Counter>,
    changes: QueueGauges,
    operations: QueueGauges,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: &'static str,
}

#[derive(Default)]
struct QueueGauges {
    queued: Gauge,
    max: Gauge,
}

impl Lanes {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self {
            batch_changes: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            batch_operations: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            waits: Family::new_with_constructor(durations),
            batches: Family::new_with_constructor(durations),
            restarts: Family::default(),
            changes: QueueGauges::default(),
            operations: QueueGauges::default(),
        };
        registry.register(
            "batch_changes",
            "Changes in a batch of batched",
            all.batch_changes.clone(),
        );
        registry.register(
            "batch_operations",
            "Operations in a batch",
            all.batch_operations.clone(),
        );
        registry.register(
            "lane_wait_seconds",
            "Time in the queue of a lane, before the lane takes the work for its next batch",
            all.waits.clone(),
        );
        registry.register(
            "lane_batch_seconds",
            "Time of a lane's request to the database: its statements, with their commit",
            all.batches.clone(),
        );
        registry.register(
            "lane_restarts",
            "Lanes that panicked and were started again",
            all.restarts.clone(),
        );
        all.changes.register(registry, "lane", "Changes", "the lanes of batched");
        all.operations.register(registry, "operation", "Operations", "the lane of operations");
        all
    }

    pub(super) fn counters(&self, kind: LaneKind, retries: Counter) -> LaneCounters {
        let (lane, sizes) = match kind {
            LaneKind::Changes => ("changes", &self.batch_changes),
            LaneKind::Operations => ("operations", &self.batch_operations),
        };
        let label = LaneLabel { lane };
        LaneCounters {
            sizes: sizes.clone(),
            waits: self.waits.get_or_create_owned(&label),
            batches: self.batches.get_or_create_owned(&label),
            restarts: self.restarts.get_or_create_owned(&label),
            retries,
        }
    }

    pub(super) fn refresh(&self, snapshot: &Snapshot) {
        self.changes.set(snapshot.changes);
        self.operations.set(snapshot.operations);
    }
}

impl QueueGauges {
    fn register(&self, registry: &mut Registry, name: &str, work: &str, place: &str) {
        let (queued, max) = (self.queued.clone(), self.max.clone());
        registry.register(
            format!("{name}_queue"),
            format!("{work} that wait for a batch, in {place}"),
            queued,
        );
        registry.register(
            format!("{name}_queue_max"),
            format!("{work} that may wait for a batch, in {place}"),
            max,
        );
    }

    fn set(&self, QueueUse { queued, max }: QueueUse) {
        set(&self.queued, queued);
        set(&self.max, max);
    }
}

/// What a lane measures itself.
#[derive(Clone)]
pub(crate) struct LaneCounters {
    sizes: Histogram,
    waits: Histogram,
    batches: Histogram,
    /// Panics after which the lane was started again.
    pub(crate) restarts: Counter,
    /// What was sent again, after a lost connection or a lost race.
    pub(crate) retries: Counter,
}

impl LaneCounters {
    /// A piece of work has left the queue.
    pub(crate) fn observe_wait(&self, wait: Duration) {
        self.waits.observe(wait.as_secs_f64());
    }

    /// So much work goes into a batch.
    pub(crate) fn observe_size(&self, size: usize) {
        self.sizes.observe(f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
    }

    /// The database has answered a request, or has not in time.
    pub(crate) fn observe_batch(&self, took: Duration) {
        self.batches.observe(took.as_secs_f64());
    }
}
