//! The numbers of a run, over all rounds.

use super::{Report, grouped, millis};
use crate::faults::kind::Kind;
use crate::faults::recovery::Times;
use crate::faults::round::Round;
use crate::findings;
use crate::load::Operations;

/// What is counted.
pub(super) struct Figures {
    pub(super) faults: usize,
    missed: usize,
    pub(super) violations: usize,
    stuck: usize,
    pub(super) requests: usize,
    reads: usize,
    hung_up: usize,
    unanswered: usize,
    /// Of all operations.
    pub(super) total: Operations,
    /// In the order of the kinds; without those that never happened.
    pub(super) kinds: Vec<OfKind>,
    /// Recovery from the faults that take the database away.
    from_database: Times,
    recoveries: Times,
    disturbed: usize,
}

/// One kind of fault.
pub(super) struct OfKind {
    pub(super) kind: Kind,
    pub(super) count: usize,
    pub(super) times: Times,
}

impl Figures {
    pub(super) fn of(report: &Report) -> Self {
        let faults = || report.rounds.iter().flat_map(|round| &round.faults);
        let made = || faults().filter(|fault| !fault.missed);
        let kinds = Kind::all().map(|kind| {
            let of_kind = || made().filter(move |fault| fault.kind == kind);
            let times = of_kind().filter_map(|fault| fault.recovery()).collect();
            OfKind { kind, count: of_kind().count(), times }
        });
        let mut total = Operations::default();
        for round in &report.rounds {
            total.add(&round.counts.total());
        }
        let sum = |of: fn(&Round) -> usize| report.rounds.iter().map(of).sum();
        let violations = || report.rounds.iter().flat_map(|round| &round.violations);
        let unanswered = violations().filter(|found| found.kind == findings::Kind::TimedOut);
        let from_database = made().filter(|fault| fault.kind.takes_database_away());
        Self {
            faults: made().count(),
            missed: faults().count() - made().count(),
            violations: violations().map(|violation| violation.count).sum::<usize>()
                + report.rounds.iter().map(|round| round.wrong.len()).sum::<usize>(),
            stuck: sum(|round| round.stuck),
            requests: sum(|round| round.counts.requests),
            reads: sum(|round| round.counts.reads),
            hung_up: sum(|round| round.hung_up),
            unanswered: unanswered.map(|found| found.count).sum(),
            total,
            kinds: kinds.filter(|of| of.count > 0).collect(),
            from_database: from_database.filter_map(|fault| fault.recovery()).collect(),
            recoveries: made().filter_map(|fault| fault.recovery()).collect(),
            disturbed: made().filter(|fault| fault.disturbed).count(),
        }
    }

    /// Each with its name.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let total = &self.total;
        let mut lines: Vec<_> = [
            ("requests, also those that were sent again", self.requests),
            ("  of them reads that were answered", self.reads),
            ("  of them cut by their clients", self.hung_up),
            ("operations, each counted once", total.operations()),
            ("  acknowledged", total.acknowledged),
            ("  refused", total.refused),
            ("  known not applied", total.not_applied),
            ("  unknown for a time (504, connection lost)", total.unknown),
            ("    with a key: asked again, applied", total.applied_by_key),
            ("    with a key: asked again, refused", total.not_applied_by_key),
            ("    with a key: still unknown", total.unresolved),
            ("    without a key: in the journal", total.in_journal),
            ("    without a key: not in the journal", total.not_in_journal),
            ("unanswered requests", self.unanswered),
            ("stuck sessions", self.stuck),
            ("violations", self.violations),
            ("faults", self.faults),
            ("  that another fault made impossible (not counted)", self.missed),
            ("  whose recovery another fault disturbed (not in the times)", self.disturbed),
        ]
        .map(|(name, number)| (name, grouped(number)))
        .to_vec();
        for (name, times, percent) in [
            ("recovery after the database's return, p50", &self.from_database, 50),
            ("recovery after the database's return, p99", &self.from_database, 99),
            ("recovery after the database's return, max", &self.from_database, 100),
            ("recovery after any fault, p50", &self.recoveries, 50),
            ("recovery after any fault, p99", &self.recoveries, 99),
            ("recovery after any fault, max", &self.recoveries, 100),
        ] {
            lines.push((name, millis(times.percentile(percent))));
        }
        lines
    }
}
