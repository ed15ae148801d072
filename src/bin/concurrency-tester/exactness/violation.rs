//! The ways to break exactness, and how they are counted.

use std::collections::BTreeMap;
use std::fmt;

use plimsoll::verify;

/// How many examples of each kind are kept; the log has all of them.
const EXAMPLES_MAX: usize = 5;

/// One way to be wrong. The order is that of the report: the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An answer with a balance below zero.
    NegativeBalance,
    /// More changes accepted than the balance can pay.
    TooManyAccepted,
    /// One balance answered to two requests: one of the two changes is lost.
    RepeatedBalance,
    /// A balance that no sequence of these changes leads to.
    ImpossibleBalance,
    /// A balance that some accepted change must have led to, answered to nobody.
    MissingBalance,
    /// More refusals than changes that could not be paid.
    RefusedWhileAffordable,
    /// The balance after the burst is not what it must be.
    FinalBalance,
    /// A status of the contract with a body that is not.
    UnexpectedBody(u16),
    /// A status that the burst cannot lead to, 5xx above all.
    UnexpectedStatus(u16),
    /// No answer in time.
    TimedOut,
    /// No answer, or half of one, before the connection ended.
    ConnectionLost,
    /// Journal, balances and keys in the database do not agree.
    Stored(verify::Kind),
}

impl Kind {
    /// A name for programs; the status, where there is one, is part of it.
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

    /// Each one found is an example of its own; otherwise one comparison found them all.
    pub(crate) fn is_counted_one_by_one(self) -> bool {
        !matches!(self, Self::TooManyAccepted | Self::RefusedWhileAffordable)
    }
}

/// What is broken, in the singular, to be read after a count.
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
    /// One that was found in the database.
    pub(super) fn stored(found: &verify::Found) -> Self {
        Self {
            kind: Kind::Stored(found.kind),
            count: usize::try_from(found.count).unwrap_or(usize::MAX),
            examples: found.first.iter().take(EXAMPLES_MAX).map(ToString::to_string).collect(),
        }
    }
}

/// As it reads in a verdict: `3 × balance answered again (a lost update)`.
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

    /// The example is only put into words while there is room for it: a burst can be all wrong.
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
