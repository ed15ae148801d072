//! How a change can end.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Balance;

/// What is decided on a change. This much is stored with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The balance right after the change.
    Accepted(Balance),
    /// Insufficient funds: the change would take the balance below zero.
    Refused,
}

/// A decision, and whether it was made earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is answered.
    pub decision: Decision,
    /// The key was used before, and this is the decision that was stored with it.
    pub replayed: bool,
}

impl Outcome {
    /// A decision that was made just now.
    pub const fn fresh(decision: Decision) -> Self {
        Self { decision, replayed: false }
    }

    /// A decision that was stored with the key.
    pub const fn replayed(decision: Decision) -> Self {
        Self { decision, replayed: true }
    }
}

/// Why a change was not decided. Never stored with a key.
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
    /// The key was used for a request that asked for something else.
    #[error("The Idempotency-Key was used before with another request")]
    KeyReused,
    /// A request with the same key did not finish in time.
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
