//! How a change or an operation can end.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::{Balance, HoldNumber, Timestamp};

/// What is decided on a change. This much is stored with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The balance right after the change.
    Accepted(Balance),
    /// Insufficient funds: the change would take the balance below zero.
    Refused,
}

/// What is decided on an operation. This much is stored with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationDecision {
    /// A transfer, and both users right after it.
    Transferred {
        /// Who has paid.
        from: Position,
        /// Who was paid.
        to: Position,
    },
    /// Money was set aside.
    Reserved {
        /// The number of the new hold.
        hold: HoldNumber,
        /// What can be spent right after it.
        balance: Balance,
        /// What is set aside right after it.
        held: Balance,
        /// From this moment on it can no longer be captured.
        expires_at: Timestamp,
    },
    /// Held money was taken.
    Captured {
        /// How much.
        captured: Balance,
        /// What its owner can spend right after it.
        balance: Balance,
        /// What its owner has set aside right after it.
        held: Balance,
    },
    /// Held money was given back.
    Released {
        /// What can be spent right after it.
        balance: Balance,
        /// What is set aside right after it.
        held: Balance,
    },
    /// All changes of a bulk were applied; each has the balance right after it.
    AllApplied(Vec<Balance>),
    /// Insufficient funds: nothing was applied.
    Refused {
        /// Of a bulk, the position of the first change that would take a balance below zero.
        at: Option<usize>,
    },
}

/// A user's balance, and the entry of the journal that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// What can be spent.
    pub balance: Balance,
    /// The number of the user's last entry.
    pub version: i64,
}

/// A decision, and whether it was made earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<D = Decision> {
    /// What is answered.
    pub decision: D,
    /// The key was used before, and this is the decision that was stored with it.
    pub replayed: bool,
}

impl<D> Outcome<D> {
    /// A decision that was made just now.
    pub const fn fresh(decision: D) -> Self {
        Self { decision, replayed: false }
    }

    /// A decision that was stored with the key.
    pub const fn replayed(decision: D) -> Self {
        Self { decision, replayed: true }
    }
}

/// Why a change or an operation was not decided. Never stored with a key.
///
/// Every variant except [`OutcomeUnknown`](Self::OutcomeUnknown) means that nothing was applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The new balance, with what is held, would not fit into 63 bits.
    #[error("Balance out of range")]
    BalanceOutOfRange,
    /// There is no such user.
    #[error("User not found")]
    UserNotFound,
    /// The user has no such hold.
    #[error("Hold not found")]
    HoldNotFound,
    /// The hold is no longer open.
    #[error("The hold is {0}")]
    HoldResolved(Resolution),
    /// The hold has less than what was to be captured.
    #[error("amount must not be more than the hold's {0}")]
    BeyondHold(Balance),
    /// The error is about one part of an operation on several users.
    #[error("{0}: {1}")]
    Part(Part, Box<Self>),
    /// The key was used for a request that asked for something else.
    #[error("The Idempotency-Key was used before with another request")]
    KeyReused,
    /// A request with the same key did not finish in time.
    #[error("A change with the same Idempotency-Key is still running, try again")]
    KeyInProgress,
    /// Refused before any work, because too much waits already: try again later. The text is for the log.
    #[error("Not applied, try again")]
    Busy(&'static str),
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

impl ChangeError {
    /// The error to answer with if an earlier attempt may have been applied.
    ///
    /// Such a request is never "not applied" before its key proves it: a key that another request has
    /// used excludes this one for good. Nothing else is a proof, since the earlier attempt may still be
    /// waiting for a lock and commit later.
    pub fn after_an_unknown_attempt(self) -> Self {
        match self {
            Self::KeyReused | Self::OutcomeUnknown(_) => self,
            Self::NotApplied(cause) | Self::Internal(cause) => Self::OutcomeUnknown(cause),
            other => Self::OutcomeUnknown(other.into()),
        }
    }
}

/// How a hold has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its money was taken, in full or in part.
    Captured,
    /// Its money was given back.
    Released,
    /// Its money was given back because its time was over.
    Expired,
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Captured => "captured",
            Self::Released => "released",
            Self::Expired => "expired",
        })
    }
}

/// The states of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// Its money is set aside.
    Open,
    /// It has ended.
    Resolved(Resolution),
}

impl HoldState {
    /// From its name, as [`Display`](fmt::Display) shows it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "open" => Self::Open,
            "captured" => Self::Resolved(Resolution::Captured),
            "released" => Self::Resolved(Resolution::Released),
            "expired" => Self::Resolved(Resolution::Expired),
            _ => return None,
        })
    }
}

impl fmt::Display for HoldState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Resolved(resolution) => resolution.fmt(f),
        }
    }
}

/// A part of an operation on several users, named as in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Who pays.
    From,
    /// Who is paid.
    To,
    /// The change of a bulk at this position.
    Change(usize),
}

impl Part {
    /// The error of this part.
    pub fn error(self, error: ChangeError) -> ChangeError {
        ChangeError::Part(self, Box::new(error))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From => f.write_str("from"),
            Self::To => f.write_str("to"),
            Self::Change(position) => write!(f, "changes[{position}]"),
        }
    }
}

/// The source of a failure, kept for the log and never shown to a client. Clones share it.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Cause {
    fn from(error: E) -> Self {
        Self(Arc::from(error.into()))
    }
}

impl Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
