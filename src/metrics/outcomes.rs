//! Changes and operations, by how they ended.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::lanes::LaneCounters;
use crate::ledger::{ChangeError, Decision, Operation, OperationDecision, Outcome};

/// The counters of all changes and operations.
pub(super) struct Outcomes {
    changes: Family<ChangeLabels, Counter>,
    change_retries: Family<ApproachLabel, Counter>,
    operations: Family<OperationLabels, Counter>,
    operation_retries: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApproachLabel {
    approach: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    approach: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    outcome: &'static str,
}

impl Outcomes {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self {
            changes: Family::default(),
            change_retries: Family::default(),
            operations: Family::default(),
            operation_retries: Counter::default(),
        };
        let Self { changes, change_retries, operations, operation_retries } = &all;
        registry.register("changes", "Changes that were decided on, by outcome", changes.clone());
        registry.register(
            "change_retries",
            "Attempts of a change beyond its first",
            change_retries.clone(),
        );
        registry.register(
            "operations",
            "Transfers, holds and atomic bulks that were decided on, by outcome",
            operations.clone(),
        );
        registry.register(
            "operation_retries",
            "Attempts of an operation beyond its first",
            operation_retries.clone(),
        );
        all
    }

    pub(super) fn of_approach(&self, approach: &'static str) -> ApproachCounters {
        let counter =
            |outcome| self.changes.get_or_create_owned(&ChangeLabels { approach, outcome });
        let outcomes = ByOutcome::new(counter);
        let retries = self.change_retries.get_or_create_owned(&ApproachLabel { approach });
        ApproachCounters { outcomes, retries }
    }

    pub(super) fn operation_retries(&self) -> Counter {
        self.operation_retries.clone()
    }

    pub(super) fn of_operations(&self, lane: LaneCounters) -> OperationCounters {
        let outcomes = |operation| {
            ByOutcome::new(|outcome| {
                self.operations.get_or_create_owned(&OperationLabels { operation, outcome })
            })
        };
        OperationCounters {
            transfers: outcomes("transfer"),
            reserves: outcomes("hold"),
            captures: outcomes("capture"),
            releases: outcomes("release"),
            atomic_bulks: outcomes("all"),
            lane,
        }
    }
}

/// Counters by outcome, looked up once.
pub(crate) struct ByOutcome {
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

impl ByOutcome {
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
            ChangeError::Busy(_) | ChangeError::NotApplied(_) => &self.not_applied,
            ChangeError::OutcomeUnknown(_) => &self.unknown,
            ChangeError::Internal(_) => &self.failed,
        }
    }
}

/// The counters of one approach.
pub(crate) struct ApproachCounters {
    outcomes: ByOutcome,
    /// Attempts of a change beyond its first.
    pub(crate) retries: Counter,
}

impl ApproachCounters {
    /// Counts one change by its outcome.
    pub(crate) fn count(&self, outcome: &Result<Outcome, ChangeError>) {
        self.outcomes.count(outcome, |decision| matches!(decision, Decision::Refused));
    }
}

/// The counters of operations.
pub(crate) struct OperationCounters {
    transfers: ByOutcome,
    reserves: ByOutcome,
    captures: ByOutcome,
    releases: ByOutcome,
    atomic_bulks: ByOutcome,
    /// Those that the lane updates itself.
    pub(crate) lane: LaneCounters,
}

impl OperationCounters {
    /// The counters of this kind of operation.
    pub(crate) fn of(&self, operation: &Operation) -> &ByOutcome {
        match operation {
            Operation::Transfer(_) => &self.transfers,
            Operation::Reserve(_) => &self.reserves,
            Operation::Capture(_) => &self.captures,
            Operation::Release(_) => &self.releases,
            Operation::AllOrNone(_) => &self.atomic_bulks,
        }
    }
}
