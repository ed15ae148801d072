//! What a check has found: counts, and the violations by kind.

mod violation;

use plimsoll::verify::Report;

pub(crate) use violation::{Kind, ReportedViolation, Tally, Violation};

/// The result of checking one burst. `accepted + refused + wrong` is the number of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Answers 200 with an expected balance, each balance counted once.
    pub(crate) accepted: usize,
    /// Expected refusals.
    pub(crate) refused: usize,
    /// Everything else: wrong answers, and requests without an answer.
    pub(crate) wrong: usize,
    /// Violations in the answers, the gravest first, then those in the database. Empty means exact.
    pub(crate) violations: Vec<Violation>,
}

impl Findings {
    /// True if there are no violations.
    pub(crate) fn exact(&self) -> bool {
        self.violations.is_empty()
    }

    /// Adds the violations found in the database, if any.
    pub(crate) fn add_stored(&mut self, report: &Report) {
        self.violations.extend(report.violations.iter().map(Violation::stored));
    }
}
