//! The counters of the service, with their names in `GET /metrics`.
//!
//! Counters start with the process and only grow. A reader computes rates.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::ledger::{ChangeError, Decision, Operation, OperationDecision, Outcome};

/// The counters of a service. All of its threads share them.
pub struct Metrics {
    registry: Registry,
    changes: Family<ChangeLabels, Counter>,
    retries: Family<ApproachLabel, Counter>,
    batches: Histogram,
    queued: Gauge,
    operations: Family<OperationLabels, Counter>,
    operation_retries: Counter,
    operation_batches: Histogram,
    operations_queued: Gauge,
}

/// How much waits for a batch now.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    /// In the lanes of `batched`.
    pub changes: usize,
    /// In the lane of operations.
    pub operations: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApproachLabel {
    approach: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    approach: &'static str,
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    end: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("plimsoll");
        let all = Self {
            changes: Family::default(),
            retries: Family::default(),
            batches: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            queued: Gauge::default(),
            operations: Family::default(),
            operation_retries: Counter::default(),
            operation_batches: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            operations_queued: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "changes",
            "Changes that were decided on, by how they ended",
            all.changes.clone(),
        );
        registry.register(
            "tries_repeated",
            "Attempts of a change beyond its first",
            all.retries.clone(),
        );
        registry.register("batch_changes", "Changes in a batch of batched", all.batches.clone());
        registry.register(
            "lane_queue",
            "Changes that wait in the lanes of batched",
            all.queued.clone(),
        );
        registry.register(
            "operations",
            "Transfers, holds and atomic bulks that were decided on, by how they ended",
            all.operations.clone(),
        );
        registry.register(
            "operation_tries_repeated",
            "Attempts of an operation beyond its first",
            all.operation_retries.clone(),
        );
        registry.register(
            "batch_operations",
            "Operations in a batch",
            all.operation_batches.clone(),
        );
        registry.register(
            "operation_queue",
            "Operations that wait for a batch",
            all.operations_queued.clone(),
        );
        Self { registry, ..all }
    }
}

impl Metrics {
    /// All counters, in the text format of OpenMetrics 1.0.
    pub(crate) fn text(&self, queued: Queued) -> String {
        for (gauge, count) in
            [(&self.queued, queued.changes), (&self.operations_queued, queued.operations)]
        {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }

    /// The counters of one approach. From now on they are shown, even at zero.
    pub(crate) fn of(&self, approach: &'static str) -> ApproachCounters {
        let counter = |end| self.changes.get_or_create_owned(&ChangeLabels { approach, end });
        let ends = Ends::new(counter);
        let retries = self.retries.get_or_create_owned(&ApproachLabel { approach });
        ApproachCounters { ends, retries }
    }

    /// The counters that the lanes of that approach update themselves.
    pub(crate) fn of_lanes(&self, approach: &'static str) -> LaneCounters {
        let retries = self.of(approach).retries;
        LaneCounters { batches: self.batches.clone(), retries }
    }

    /// The counters of operations. From now on they are shown, even at zero.
    pub(crate) fn of_operations(&self) -> OperationCounters {
        let ends = |operation| {
            Ends::new(|end| {
                self.operations.get_or_create_owned(&OperationLabels { operation, end })
            })
        };
        OperationCounters {
            transfers: ends("transfer"),
            reserves: ends("hold"),
            captures: ends("capture"),
            releases: ends("release"),
            atomic_bulks: ends("all"),
            lane: LaneCounters {
                batches: self.operation_batches.clone(),
                retries: self.operation_retries.clone(),
            },
        }
    }
}

/// Counters by how requests end, looked up once.
pub(crate) struct Ends {
    accepted: Counter,
    refused: Counter,
    /// A stored outcome was answered again.
    replayed: Counter,
    /// The request is the reason: an unknown user, a key in use or used before, a sum out of range, a
    /// hold that has ended.
    rejected: Counter,
    not_applied: Counter,
    unknown: Counter,
    failed: Counter,
}

impl Ends {
    fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self {
            accepted: counter("accepted"),
            refused: counter("refused"),
            replayed: counter("replayed"),
            rejected: counter("rejected"),
            not_applied: counter("not_applied"),
            unknown: counter("unknown"),
            failed: counter("failed"),
        }
    }

    /// Counts one operation by its outcome.
    pub(crate) fn count_operation(
        &self,
        outcome: &Result<Outcome<OperationDecision>, ChangeError>,
    ) {
        self.count(outcome, |decision| matches!(decision, OperationDecision::Refused { .. }));
    }

    fn count<D>(&self, outcome: &Result<Outcome<D>, ChangeError>, is_refused: impl Fn(&D) -> bool) {
        let counter = match outcome {
            Ok(Outcome { replayed: true, .. }) => &self.replayed,
            Ok(Outcome { decision, .. }) if is_refused(decision) => &self.refused,
            Ok(_) => &self.accepted,
            Err(error) => self.of_error(error),
        };
        counter.inc();
    }

    fn of_error(&self, error: &ChangeError) -> &Counter {
        match error {
            ChangeError::UserNotFound
            | ChangeError::BalanceOutOfRange
            | ChangeError::KeyInProgress
            | ChangeError::KeyReused
            | ChangeError::HoldNotFound
            | ChangeError::HoldResolved(_)
            | ChangeError::BeyondHold(_)
            | ChangeError::Part(..) => &self.rejected,
            ChangeError::NotApplied(_) => &self.not_applied,
            ChangeError::OutcomeUnknown(_) => &self.unknown,
            ChangeError::Internal(_) => &self.failed,
        }
    }
}

/// The counters of one approach.
pub(crate) struct ApproachCounters {
    ends: Ends,
    /// Attempts of a change beyond its first.
    pub(crate) retries: Counter,
}

impl ApproachCounters {
    /// Counts one change by its outcome.
    pub(crate) fn count(&self, outcome: &Result<Outcome, ChangeError>) {
        self.ends.count(outcome, |decision| matches!(decision, Decision::Refused));
    }
}

/// The counters of operations.
pub(crate) struct OperationCounters {
    transfers: Ends,
    reserves: Ends,
    captures: Ends,
    releases: Ends,
    atomic_bulks: Ends,
    /// Those that the lane updates itself.
    pub(crate) lane: LaneCounters,
}

impl OperationCounters {
    /// The counters of this kind of operation.
    pub(crate) fn of(&self, operation: &Operation) -> &Ends {
        match operation {
            Operation::Transfer(_) => &self.transfers,
            Operation::Reserve(_) => &self.reserves,
            Operation::Capture(_) => &self.captures,
            Operation::Release(_) => &self.releases,
            Operation::AllOrNone(_) => &self.atomic_bulks,
        }
    }
}

/// The counters that a lane updates itself.
#[derive(Clone)]
pub(crate) struct LaneCounters {
    /// How much is in each batch.
    pub(crate) batches: Histogram,
    /// What was sent again, after a lost connection or a lost race.
    pub(crate) retries: Counter,
}
