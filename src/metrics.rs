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

use crate::ledger::{ChangeError, Decision, Outcome};

/// The counters of a service. All of its threads share them.
pub struct Metrics {
    registry: Registry,
    changes: Family<ChangeLabels, Counter>,
    retries: Family<ApproachLabel, Counter>,
    batches: Histogram,
    queued: Gauge,
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

impl Default for Metrics {
    fn default() -> Self {
        let changes = Family::default();
        let retries = Family::default();
        let batches = Histogram::new(exponential_buckets(1.0, 2.0, 12));
        let queued = Gauge::default();
        let mut registry = Registry::with_prefix("plimsoll");
        registry.register(
            "changes",
            "Changes that were decided on, by how they ended",
            changes.clone(),
        );
        registry.register(
            "tries_repeated",
            "Attempts of a change beyond its first",
            retries.clone(),
        );
        registry.register("batch_changes", "Changes in a batch of batched", batches.clone());
        registry.register(
            "lane_queue",
            "Changes that wait in the lanes of batched",
            queued.clone(),
        );
        Self { registry, changes, retries, batches, queued }
    }
}

impl Metrics {
    /// All counters, in the text format of OpenMetrics 1.0. `queued` changes wait in the lanes now.
    pub(crate) fn text(&self, queued: usize) -> String {
        self.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }

    /// The counters of one approach. From now on they are shown, even at zero.
    pub(crate) fn of(&self, approach: &'static str) -> ApproachCounters {
        let counter = |end| self.changes.get_or_create_owned(&ChangeLabels { approach, end });
        ApproachCounters {
            accepted: counter("accepted"),
            refused: counter("refused"),
            replayed: counter("replayed"),
            rejected: counter("rejected"),
            not_applied: counter("not_applied"),
            unknown: counter("unknown"),
            failed: counter("failed"),
            retries: self.retries.get_or_create_owned(&ApproachLabel { approach }),
        }
    }

    /// The counters that the lanes of that approach update themselves.
    pub(crate) fn of_lanes(&self, approach: &'static str) -> LaneCounters {
        let retries = self.of(approach).retries;
        LaneCounters { batches: self.batches.clone(), retries }
    }
}

/// The counters of one approach, looked up once.
pub(crate) struct ApproachCounters {
    accepted: Counter,
    refused: Counter,
    /// A stored outcome was answered again.
    replayed: Counter,
    /// The request is the reason: an unknown user, a key in use or used before, a sum out of range.
    rejected: Counter,
    not_applied: Counter,
    unknown: Counter,
    failed: Counter,
    /// Attempts of a change beyond its first.
    pub(crate) retries: Counter,
}

/// The counters of the lanes.
#[derive(Clone)]
pub(crate) struct LaneCounters {
    /// The number of changes in each batch.
    pub(crate) batches: Histogram,
    /// Changes that were sent again, after a lost connection or a lost race.
    pub(crate) retries: Counter,
}

impl ApproachCounters {
    /// Counts one change by its outcome.
    pub(crate) fn count(&self, outcome: &Result<Outcome, ChangeError>) {
        let counter = match outcome {
            Ok(Outcome { replayed: true, .. }) => &self.replayed,
            Ok(Outcome { decision: Decision::Accepted(_), .. }) => &self.accepted,
            Ok(Outcome { decision: Decision::Refused, .. }) => &self.refused,
            Err(
                ChangeError::UserNotFound
                | ChangeError::BalanceOutOfRange
                | ChangeError::KeyInProgress
                | ChangeError::KeyReused
                | ChangeError::HoldNotFound
                | ChangeError::HoldResolved(_)
                | ChangeError::BeyondHold(_)
                | ChangeError::Part(..),
            ) => &self.rejected,
            Err(ChangeError::NotApplied(_)) => &self.not_applied,
            Err(ChangeError::OutcomeUnknown(_)) => &self.unknown,
            Err(ChangeError::Internal(_)) => &self.failed,
        };
        counter.inc();
    }
}
