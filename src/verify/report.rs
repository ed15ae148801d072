//! The report of `verify`: totals, and violations by kind with the first few of each.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::totals::Totals;

/// How many violations of each kind are stored; all are counted. The report must fit into memory
/// and on a screen even if every row is wrong.
pub const FIRST_MAX: usize = 20;

/// The result of a complete check, of one moment in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `Fail` when there is any violation.
    pub verdict: Verdict,
    /// How many users there are.
    pub users: u64,
    /// How many journal rows there are.
    pub changes: u64,
    /// How many keys are stored, of changes and of creations.
    pub keys: u64,
    /// In minor units. A string in JSON, since it may exceed the numbers of other programs.
    #[serde(serialize_with = "as_text")]
    pub sum_of_balances: i128,
    /// How long the snapshot was held, in milliseconds.
    pub snapshot_ms: u64,
    /// By kind; kinds without a violation are left out.
    pub violations: Vec<Found>,
}

/// Pass or fail of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All invariants hold.
    Pass,
    /// At least one invariant is broken.
    Fail,
}

/// All violations of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Which invariant is broken.
    pub kind: Kind,
    /// How many violations there are.
    pub count: u64,
    /// The first violations by user and version, at most [`FIRST_MAX`].
    pub first: Vec<Violation>,
}

/// One place where an invariant is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The user of the journal, balance or key. The user may not exist: that is one of the kinds.
    pub user: i64,
    /// The version concerned, if any.
    pub version: Option<i64>,
    /// The figures that disagree.
    pub sentence: String,
}

/// The invariants that can be broken, in the order of the report: the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A user's balance is below zero.
    BalanceBelowZero,
    /// A user's held money is below zero.
    HeldBelowZero,
    /// A user's balance and held money together leave 63 bits, so a hold could not be released.
    FundsOutOfRange,
    /// A user's balance differs from the last balance of the journal.
    BalanceMismatch,
    /// A user's held money is not what the journal ends with.
    HeldMismatch,
    /// A user's version differs from the last version of the journal.
    VersionMismatch,
    /// A version is missing before this one.
    VersionGap,
    /// A journal row's balance differs from the balance before it plus its amount.
    WrongSum,
    /// A journal row has a balance below zero.
    JournalBelowZero,
    /// A journal row has an amount of zero.
    ZeroAmount,
    /// A journal row has members that its kind does not allow.
    MalformedEntry,
    /// A journal row names another one that does not name it back, with the opposite amount.
    PeerMismatch,
    /// A user's open holds do not add up to what is held.
    OpenHoldsMismatch,
    /// A hold differs from what the journal says about it.
    HoldMismatch,
    /// The journal captures, releases or expires a hold that it has resolved before.
    HoldResolvedAgain,
    /// A journal row is earlier than the one before it, or a user's next change could be.
    TimeBackwards,
    /// Journal rows belong to a user who does not exist.
    NoSuchUser,
    /// An accepted key differs from the newest journal row with this key, or has none.
    KeyWithoutChange,
    /// The key of a creation disagrees with its user, or the user does not exist.
    CreationWithoutUser,
}

impl Kind {
    /// The name for programs, as in JSON.
    pub fn slug(self) -> &'static str {
        match self {
            Self::BalanceBelowZero => "balance-below-zero",
            Self::HeldBelowZero => "held-below-zero",
            Self::FundsOutOfRange => "funds-out-of-range",
            Self::BalanceMismatch => "balance-mismatch",
            Self::HeldMismatch => "held-mismatch",
            Self::VersionMismatch => "version-mismatch",
            Self::VersionGap => "version-gap",
            Self::WrongSum => "wrong-sum",
            Self::JournalBelowZero => "journal-below-zero",
            Self::ZeroAmount => "zero-amount",
            Self::MalformedEntry => "malformed-entry",
            Self::PeerMismatch => "peer-mismatch",
            Self::OpenHoldsMismatch => "open-holds-mismatch",
            Self::HoldMismatch => "hold-mismatch",
            Self::HoldResolvedAgain => "hold-resolved-again",
            Self::TimeBackwards => "time-backwards",
            Self::NoSuchUser => "no-such-user",
            Self::KeyWithoutChange => "key-without-change",
            Self::CreationWithoutUser => "creation-without-user",
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.slug())
    }
}

/// In the singular, to follow a count.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BalanceBelowZero => "balance below zero",
            Self::HeldBelowZero => "held money below zero",
            Self::FundsOutOfRange => "balance with held money out of range",
            Self::BalanceMismatch => "balance that its journal does not end with",
            Self::HeldMismatch => "held money that its journal does not end with",
            Self::VersionMismatch => "version that its journal does not end with",
            Self::VersionGap => "gap in a journal",
            Self::WrongSum => "change that does not add up",
            Self::JournalBelowZero => "change to below zero",
            Self::ZeroAmount => "change by zero",
            Self::MalformedEntry => "entry that its kind does not allow",
            Self::PeerMismatch => "entry without its other side",
            Self::OpenHoldsMismatch => "held money that the open holds do not add up to",
            Self::HoldMismatch => "hold that its journal does not explain",
            Self::HoldResolvedAgain => "hold that is resolved again",
            Self::TimeBackwards => "time that runs backwards",
            Self::NoSuchUser => "journal without a user",
            Self::KeyWithoutChange => "key without its change",
            Self::CreationWithoutUser => "creation key without its user",
        })
    }
}

impl Report {
    pub(super) fn new(
        totals: &Totals,
        took: Duration,
        findings: Findings,
    ) -> Result<Self, sqlx::Error> {
        let violations: Vec<Found> = findings.by_kind.into_values().collect();
        let sum = totals.sum_of_balances.parse();
        Ok(Self {
            verdict: if violations.is_empty() { Verdict::Pass } else { Verdict::Fail },
            users: totals.users.unsigned_abs(),
            changes: totals.changes.unsigned_abs(),
            keys: totals.keys.unsigned_abs(),
            sum_of_balances: sum.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            snapshot_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            violations,
        })
    }

    /// Whether all invariants hold.
    pub fn is_clean(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// How many violations there are, of all kinds.
    pub fn violation_count(&self) -> u64 {
        self.violations.iter().map(|found| found.count).sum()
    }
}

/// Collects violations by kind during the check.
#[derive(Debug, Default)]
pub(super) struct Findings {
    by_kind: BTreeMap<Kind, Found>,
}

impl Findings {
    pub(super) fn add(&mut self, kind: Kind, user: i64, version: Option<i64>, sentence: String) {
        let empty = || Found { kind, count: 0, first: Vec::new() };
        let found = self.by_kind.entry(kind).or_insert_with(empty);
        found.count += 1;
        if found.first.len() < FIRST_MAX {
            found.first.push(Violation { user, version, sentence });
        }
    }
}

fn as_text<S: Serializer>(sum: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(sum)
}
