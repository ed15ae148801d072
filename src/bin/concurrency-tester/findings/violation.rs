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
    /// All users together have more or less than before, and it did not come in or go out.
    SumChanged,
    /// Entries of an operation beyond those that it may leave.
    AppliedTwice,
    /// Only some of the entries of an operation.
    AppliedInPart,
    /// More than one request won the same hold.
    ResolvedTwice,
    /// Entries of an operation that was answered with a no.
    AppliedThoughRefused,
    /// An operation was accepted and left no entry.
    MissingEntry,
    /// An entry that no request asked for.
    ForeignEntry,
    /// More changes accepted than the balance can pay.
    TooManyAccepted,
    /// Two answers with the same balance: one of the two changes is lost.
    RepeatedBalance,
    /// A balance that no sequence of these changes leads to.
    ImpossibleBalance,
    /// A balance that some accepted change must have led to, and that no answer has.
    MissingBalance,
    /// An answer with other numbers than the entry that it is about.
    WrongEntry,
    /// An entry that does not follow from the one before it.
    BrokenHistory,
    /// An entry that names another one, which does not name it or does not match.
    OneSided,
    /// An entry with an earlier time than the one before it.
    TimeRunsBackwards,
    /// Entries of a bulk in another order than that of its changes.
    WrongOrder,
    /// Entries of one operation with different times.
    NotAtOnce,
    /// An operation entered before another one that was answered before this one was called.
    RealTimeOrder,
    /// A read of a state that was over before the read was called.
    StaleRead,
    /// A read of an entry that nobody had asked for when the read returned.
    ReadTooEarly,
    /// A read that contradicts the histories.
    WrongRead,
    /// Different answers to requests with the same key.
    DifferentAnswers,
    /// A key that was accepted for another request than its first one.
    KeyReused,
    /// More refusals than changes that could not be paid.
    RefusedWhileAffordable,
    /// A refusal although the balance was never that low.
    ImpossibleRefusal,
    /// A hold that is said to be resolved, while nobody is told to have resolved it.
    NobodyResolved,
    /// A hold that was captured or released when its time was over.
    ResolvedAfterExpiry,
    /// A hold that expired before its time.
    ExpiredEarly,
    /// A conflict that names another state than that of the hold.
    WrongResolution,
    /// A hold whose state is not the one that the answers led to.
    WrongHold,
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
            Self::SumChanged => "sum-changed".to_owned(),
            Self::AppliedTwice => "applied-twice".to_owned(),
            Self::AppliedInPart => "applied-in-part".to_owned(),
            Self::ResolvedTwice => "resolved-twice".to_owned(),
            Self::AppliedThoughRefused => "applied-though-refused".to_owned(),
            Self::MissingEntry => "missing-entry".to_owned(),
            Self::ForeignEntry => "foreign-entry".to_owned(),
            Self::TooManyAccepted => "too-many-accepted".to_owned(),
            Self::RepeatedBalance => "repeated-balance".to_owned(),
            Self::ImpossibleBalance => "impossible-balance".to_owned(),
            Self::MissingBalance => "missing-balance".to_owned(),
            Self::WrongEntry => "wrong-entry".to_owned(),
            Self::BrokenHistory => "broken-history".to_owned(),
            Self::TimeRunsBackwards => "time-runs-backwards".to_owned(),
            Self::OneSided => "one-sided".to_owned(),
            Self::WrongRead => "wrong-read".to_owned(),
            Self::ReadTooEarly => "read-too-early".to_owned(),
            Self::StaleRead => "stale-read".to_owned(),
            Self::RealTimeOrder => "real-time-order".to_owned(),
            Self::NotAtOnce => "not-at-once".to_owned(),
            Self::WrongOrder => "wrong-order".to_owned(),
            Self::DifferentAnswers => "different-answers".to_owned(),
            Self::KeyReused => "key-reused".to_owned(),
            Self::ImpossibleRefusal => "impossible-refusal".to_owned(),
            Self::ExpiredEarly => "expired-early".to_owned(),
            Self::ResolvedAfterExpiry => "resolved-after-expiry".to_owned(),
            Self::NobodyResolved => "nobody-resolved".to_owned(),
            Self::WrongResolution => "wrong-resolution".to_owned(),
            Self::WrongHold => "wrong-hold".to_owned(),
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
            Self::SumChanged => f.write_str("sum of all balances that is not what it was"),
            Self::AppliedTwice => f.write_str("operation applied more than once"),
            Self::AppliedInPart => f.write_str("operation applied in part"),
            Self::ResolvedTwice => f.write_str("hold resolved once more"),
            Self::AppliedThoughRefused => f.write_str("operation applied although it was refused"),
            Self::MissingEntry => f.write_str("accepted operation without an entry"),
            Self::ForeignEntry => f.write_str("entry that no request asked for"),
            Self::TooManyAccepted => f.write_str("accepted beyond what the balance can pay"),
            Self::RepeatedBalance => f.write_str("balance answered again (a lost update)"),
            Self::ImpossibleBalance => f.write_str("balance that cannot come about"),
            Self::MissingBalance => f.write_str("balance answered to nobody"),
            Self::WrongEntry => f.write_str("answer that contradicts its entry"),
            Self::BrokenHistory => f.write_str("entry that does not follow from the one before"),
            Self::OneSided => f.write_str("entry whose other side is missing or differs"),
            Self::WrongOrder => f.write_str("change of a bulk out of order"),
            Self::DifferentAnswers => f.write_str("different answer to the same key"),
            Self::KeyReused => f.write_str("key accepted for another request"),
            Self::ImpossibleRefusal => {
                f.write_str("refusal although the balance was never that low")
            }
            Self::NobodyResolved => f.write_str("hold that nobody is told to have resolved"),
            Self::WrongResolution => f.write_str("conflict that names a wrong state of the hold"),
            Self::WrongHold => f.write_str("hold in a wrong state at the end"),
            Self::RefusedWhileAffordable => f.write_str("refused while affordable"),
            Self::FinalBalance => f.write_str("wrong final balance"),
            Self::NotAtOnce => f.write_str("operation that was not entered at one moment"),
            Self::TimeRunsBackwards => {
                f.write_str("entry with an earlier time than the one before")
            }
            Self::RealTimeOrder => {
                f.write_str("operation entered before one that was answered before its call")
            }
            Self::StaleRead => f.write_str("read of a state that was already over"),
            Self::ReadTooEarly => f.write_str("read of an entry that nobody had asked for yet"),
            Self::WrongRead => f.write_str("read that contradicts the history"),
            Self::ResolvedAfterExpiry => f.write_str("hold captured or released after its time"),
            Self::ExpiredEarly => f.write_str("hold that expired before its time"),
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
    pub(crate) fn stored(found: &verify::Found) -> Self {
        Self {
            kind: Kind::Stored(found.kind),
            count: usize::try_from(found.count).unwrap_or(usize::MAX),
            examples: found.first.iter().take(EXAMPLES_MAX).map(ToString::to_string).collect(),
        }
    }
}

/// A violation for programs.
#[derive(Debug, serde::Serialize)]
pub(crate) struct ReportedViolation {
    kind: String,
    meaning: String,
    count: usize,
    examples: Vec<String>,
}

impl ReportedViolation {
    pub(crate) fn of(violation: &Violation) -> Self {
        Self {
            kind: violation.kind.slug(),
            meaning: violation.kind.to_string(),
            count: violation.count,
            examples: violation.examples.clone(),
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
pub(crate) struct Tally {
    kinds: BTreeMap<Kind, Violation>,
}

impl Tally {
    pub(crate) fn add(&mut self, kind: Kind, example: impl FnOnce() -> String) {
        self.add_many(kind, 1, example);
    }

    /// Formats the example only while there is room for it: every answer of a burst may be wrong.
    pub(crate) fn add_many(&mut self, kind: Kind, count: usize, example: impl FnOnce() -> String) {
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

    pub(crate) fn into_violations(self) -> Vec<Violation> {
        self.kinds.into_values().collect()
    }
}
