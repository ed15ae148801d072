//! The answers to operations.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Balance, Held, Version};
use crate::ledger::{self, Payment, UserId};

/// Both users of a transfer, right after it.
#[derive(Serialize, ToSchema)]
#[schema(as = Transferred)]
pub(in crate::http) struct TransferDone {
    /// Who has paid.
    pub(in crate::http) from: Side,
    /// Who was paid.
    pub(in crate::http) to: Side,
}

/// One user of a transfer, right after it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Side {
    #[schema(value_type = UserId)]
    pub(in crate::http) id: i64,
    #[schema(value_type = Balance)]
    pub(in crate::http) balance: ledger::Balance,
    #[schema(value_type = Version)]
    pub(in crate::http) version: i64,
}

/// A hold that was made, and its user right after it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Reserved)]
pub(in crate::http) struct NewHoldDone {
    /// The number of the hold: the version of its entry in the history.
    #[schema(value_type = Version)]
    pub(in crate::http) hold: i64,
    /// What was set aside, in minor units (cents).
    #[schema(value_type = Payment)]
    pub(in crate::http) amount: ledger::Balance,
    #[schema(value_type = Balance)]
    pub(in crate::http) balance: ledger::Balance,
    #[schema(value_type = Held)]
    pub(in crate::http) held: ledger::Balance,
    /// From then on it can no longer be captured. UTC, with microseconds.
    #[schema(format = DateTime)]
    pub(in crate::http) expires_at: String,
}

/// What was captured, and the hold's user right after it.
#[derive(Serialize, ToSchema)]
#[schema(as = Captured)]
pub(in crate::http) struct HoldCaptured {
    /// What was taken of the hold, in minor units (cents).
    #[schema(value_type = Payment)]
    pub(in crate::http) captured: ledger::Balance,
    #[schema(value_type = Balance)]
    pub(in crate::http) balance: ledger::Balance,
    #[schema(value_type = Held)]
    pub(in crate::http) held: ledger::Balance,
}

/// The hold's user right after its release.
#[derive(Serialize, ToSchema)]
#[schema(as = Released)]
pub(in crate::http) struct HoldReleased {
    #[schema(value_type = Balance)]
    pub(in crate::http) balance: ledger::Balance,
    #[schema(value_type = Held)]
    pub(in crate::http) held: ledger::Balance,
}

/// The results of a bulk of which everything was applied.
#[derive(Serialize)]
pub(in crate::http) struct AllDone {
    pub(in crate::http) results: Vec<AppliedOfAll>,
}

/// One change of such a bulk.
#[derive(Serialize)]
pub(in crate::http) struct AppliedOfAll {
    /// Right after the change.
    pub(in crate::http) balance: ledger::Balance,
}
