//! The domain: what a change of a balance is, and how it can end.
//!
//! This module knows neither HTTP nor SQL. The constructors are the only way to get a value, so
//! whoever holds a [`UserId`] or an [`Amount`] holds one that is in range.

use std::fmt;

use thiserror::Error;

/// The source of a failure, kept for the log and never shown to a client.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A user's number, `1 … 2^63-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(i64);

impl UserId {
    /// The user that the seed creates.
    pub const FIRST: Self = Self(1);

    /// `None` for zero and below.
    pub const fn new(id: i64) -> Option<Self> {
        if id >= 1 { Some(Self(id)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A signed number of minor units (cents), `-(2^63-1) … 2^63-1`. Below zero withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

impl Amount {
    /// `None` for `i64::MIN`: it has no positive counterpart, so it could never be paid back.
    pub const fn new(amount: i64) -> Option<Self> {
        if amount == i64::MIN { None } else { Some(Self(amount)) }
    }

    /// The number of minor units.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// A change of zero only reads.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// The number of minor units that a user owns, `0 … 2^63-1`.
pub type Balance = i64;

/// An idempotency key: 1 to 255 visible ASCII characters that the client chose for one change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The longest key, in characters.
    pub const LENGTH_MAX: usize = 255;

    /// `None` where it is empty, too long, or has other characters.
    pub fn new(key: &str) -> Option<Self> {
        let fits = (1..=Self::LENGTH_MAX).contains(&key.len());
        (fits && key.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(key.to_owned()))
    }

    /// The key itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client asks for: move one user's balance by an amount.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose balance.
    pub user: UserId,
    /// By how much.
    pub amount: Amount,
    /// With a key, a change happens at most once, however often it is sent.
    pub key: Option<Key>,
}

/// What the balance said to a change. This much is kept with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The balance right after the change.
    Accepted(Balance),
    /// Insufficient funds: the change would take the balance below zero.
    Refused,
}

/// A decision, and whether it is an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is answered.
    pub decision: Decision,
    /// The key was used before, and this is what came of it then.
    pub replayed: bool,
}

impl Outcome {
    /// A decision made just now.
    pub const fn fresh(decision: Decision) -> Self {
        Self { decision, replayed: false }
    }
}

/// Why a change was not even decided. Never kept with a key.
///
/// Every variant except [`OutcomeUnknown`](Self::OutcomeUnknown) means that nothing was changed.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The new balance would not fit into 63 bits.
    #[error("Balance out of range")]
    BalanceOutOfRange,
    /// There is no such user.
    #[error("User not found")]
    UserNotFound,
    /// The key belongs to a change by another amount.
    #[error("The Idempotency-Key was used before with another amount")]
    KeyReused,
    /// A change with the same key did not finish in time.
    #[error("A change with the same Idempotency-Key is still running, try again")]
    KeyInProgress,
    /// Given up before the database took the change, or rolled back by it: try again.
    #[error("Not applied, try again")]
    NotApplied(#[source] Cause),
    /// The connection was lost, or time ran out, after the change was sent.
    #[error("Outcome unknown: the change may or may not have been applied")]
    OutcomeUnknown(#[source] Cause),
    /// A failure that nobody foresaw; the database rolled the change back.
    #[error("Internal server error")]
    Internal(#[source] Cause),
}

/// The rule of the line: what a balance says to an amount.
///
/// Approaches that decide in Rust share it; the others say the same in SQL.
///
/// # Errors
/// [`ChangeError::BalanceOutOfRange`] where the sum does not fit.
pub fn decide(balance: Balance, amount: Amount) -> Result<Decision, ChangeError> {
    match balance.checked_add(amount.get()) {
        Some(after) if after >= 0 => Ok(Decision::Accepted(after)),
        Some(_) => Ok(Decision::Refused),
        // A balance is never negative, so only a deposit can leave the range.
        None => Err(ChangeError::BalanceOutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(value: i64) -> Amount {
        Amount::new(value).unwrap()
    }

    #[test]
    fn the_line_is_reached_but_never_crossed() {
        assert_eq!(decide(2, amount(-2)).unwrap(), Decision::Accepted(0));
        assert_eq!(decide(1, amount(-2)).unwrap(), Decision::Refused);
        assert_eq!(decide(0, amount(-i64::MAX)).unwrap(), Decision::Refused);
        assert_eq!(decide(i64::MAX, amount(-i64::MAX)).unwrap(), Decision::Accepted(0));
    }

    #[test]
    fn a_sum_beyond_the_range_is_refused_and_not_wrapped() {
        assert_eq!(decide(i64::MAX - 1, amount(1)).unwrap(), Decision::Accepted(i64::MAX));
        assert!(matches!(decide(i64::MAX, amount(1)), Err(ChangeError::BalanceOutOfRange)));
    }

    #[test]
    fn values_out_of_range_cannot_be_made() {
        assert!(Amount::new(i64::MIN).is_none());
        assert!(UserId::new(0).is_none());
        assert!(UserId::new(-1).is_none());
        for key in ["", " ", "a b", "tab\t", "é", &"x".repeat(256)] {
            assert!(Key::new(key).is_none(), "{key:?}");
        }
        assert!(Key::new(&"~".repeat(255)).is_some());
    }
}
