//! The kinds of violations, and their counters.

use std::collections::BTreeMap;
use std::fmt;

use plimsoll::verify;

/// How many examples of each kind the report has. The log has every answer.
const EXAMPLES_MAX: usize = 5;

/// One kind of violation. The order is that of the report: the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An answer with a balance below zero.
    NegativeBalance,
    /// More changes accepted than the balance can pay.
    TooManyAccepted,
    /// Two answers with the same balance: one of the two changes is lost.
    RepeatedBalance,
    /// A balance that no sequence of these changes leads to.
    ImpossibleBalance,
    /// A balance that some accepted change must have led to, and that no answer has.
    MissingBalance,
    /// More refusals than changes that could not be paid.
    RefusedWhileAffordable,
    /// The balance after the burst is not the expected one.
    FinalBalance,
    /// An expected status with a body that the contract does not allow.
    UnexpectedBody(u16),
    /// A status that a correct service never answers here, mostly 5xx.
    UnexpectedStatus(u16),
    /// No answer in time.
    TimedOut,
    /// The connection closed before the whole answer was received.
    ConnectionLost,
    /// Journal, balances and keys in the database do not agree.
    Stored(verify::Kind),
}

impl Kind {
    /// A name for programs. It includes the status, if the kind has one.
    pub(crate) fn slug(self) -> String {
        match self {
            Self::NegativeBalance => "negative-balance".to_owned(),
            Self::TooManyAccepted => "too-many-accepted".to_owned(),
            Self::RepeatedBalance => "repeated-balance".to_owned(),
            Self::ImpossibleBalance => "impossible-balance".to_owned(),
            Self::MissingBalance => "missing-balance".to_owned(),
            Self::RefusedWhileAffordable => "refused-while-affordable".to_owned(),
            Self::FinalBalance => "final-balance".to_owned(),
            Self::UnexpectedBody(status) => format!("unexpected-body-{status}"),
            Self::UnexpectedStatus(status) => format!("status-{status}"),
            Self::TimedOut => "timed-out".to_owned(),
            Self::ConnectionLost => "connection-lost".to_owned(),
            Self::Stored(kind) => format!("stored-{}", kind.slug()),
        }
    }

    /// True if each violation has an example of its own. False if one comparison found all of them.
    pub(crate) fn is_counted_one_by_one(self) -> bool {
        !matches!(self, Self::TooManyAccepted | Self::RefusedWhileAffordable)
    }
}

/// The violation in the singular, to follow a count.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeBalance => f.write_str("balance below zero"),
            Self::TooManyAccepted => f.write_str("accepted beyond what the balance can pay"),
            Self::RepeatedBalance => f.write_str("balance answered again (a lost update)"),
            Self::ImpossibleBalance => f.write_str("balance that cannot come about"),
            Self::MissingBalance => f.write_str("balance answered to nobody"),
            Self::RefusedWhileAffordable => f.write_str("refused while affordable"),
            Self::FinalBalance => f.write_str("wrong final balance"),
            Self::UnexpectedBody(status) => write!(f, "unexpected body with status {status}"),
            Self::UnexpectedStatus(status) => write!(f, "unexpected status {status}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::ConnectionLost => f.write_str("connection lost without a whole answer"),
            Self::Stored(kind) => write!(f, "{kind} (in the database)"),
        }
    }
}

/// One kind of violation, how often it was found, and the first few examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    pub(crate) examples: Vec<String>,
}

impl Violation {
    /// A violation found in the database.
    pub(super) fn stored(found: &verify::Found) -> Self {
        Self {
            kind: Kind::Stored(found.kind),
            count: usize::try_from(found.count).unwrap_or(usize::MAX),
            examples: found.first.iter().take(EXAMPLES_MAX).map(ToString::to_string).collect(),
        }
    }
}

/// As in the verdict: `3 × balance answered again (a lost update)`.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.count, self.kind)
    }
}

/// Counts violations by kind.
#[derive(Debug, Default)]
pub(super) struct Tally {
    kinds: BTreeMap<Kind, Violation>,
}

impl Tally {
    pub(super) fn add(&mut self, kind: Kind, example: impl FnOnce() -> String) {
        self.add_many(kind, 1, example);
    }

    /// Formats the example only while there is room for it: every answer of a burst may be wrong.
    pub(super) fn add_many(&mut self, kind: Kind, count: usize, example: impl FnOnce() -> String) {
        let violation = self.kinds.entry(kind).or_insert_with(|| Violation {
            kind,
            count: 0,
            examples: Vec::new(),
        });
        violation.count += count;
        if violation.examples.len() < EXAMPLES_MAX {
            violation.examples.push(example());
        }
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.kinds.into_values().collect()
    }
}
