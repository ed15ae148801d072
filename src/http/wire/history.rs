//! A user's history: the entries of the journal.

use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::holds::HoldNumber;
use super::{Balance, Held, Version, whole_number};
use crate::ledger::{self, Reference, UserId};

/// A page of a user's history, newest first.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Changes {
    pub(in crate::http) changes: Vec<AppliedChange>,
    /// Pass it as `before` to get the next page; null on the last page.
    #[schema(value_type = Option<Version>, required)]
    pub(in crate::http) next: Option<i64>,
}

/// One entry of the history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Change)]
pub(in crate::http) struct AppliedChange {
    #[schema(value_type = Version)]
    pub(in crate::http) version: i64,
    #[schema(value_type = Kind)]
    pub(in crate::http) kind: String,
    /// By how much the balance changed.
    #[schema(value_type = Difference)]
    pub(in crate::http) amount: i64,
    /// By how much the held money changed.
    #[schema(value_type = Difference)]
    pub(in crate::http) held_amount: i64,
    /// Right after the change.
    #[schema(value_type = Balance)]
    pub(in crate::http) balance: ledger::Balance,
    /// Right after the change.
    #[schema(value_type = Held)]
    pub(in crate::http) held: ledger::Balance,
    /// UTC, with microseconds.
    #[schema(format = DateTime)]
    pub(in crate::http) created_at: String,
    /// The client's own text, if the operation had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Reference>, nullable = false)]
    pub(in crate::http) reference: Option<String>,
    /// The idempotency key of the operation, if it had one that belongs to this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$", nullable = false)]
    pub(in crate::http) key: Option<String>,
    /// The user's hold that it made, captured, released or expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<HoldNumber>, nullable = false)]
    pub(in crate::http) hold: Option<ledger::HoldNumber>,
    /// The other side of a transfer, or of a capture to somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::http) peer: Option<Peer>,
}

/// Where a stream of events begins: the user as of now.
#[derive(Serialize)]
pub(in crate::http) struct Standing {
    pub(in crate::http) balance: ledger::Balance,
    pub(in crate::http) held: ledger::Balance,
    pub(in crate::http) version: i64,
}

/// Another user's entry of the same operation. It names this one in turn.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Peer {
    #[schema(value_type = UserId)]
    pub(in crate::http) user: i64,
    #[schema(value_type = Version)]
    pub(in crate::http) version: i64,
}

/// The schema of the kind of an operation.
pub(in crate::http) struct Kind;

impl PartialSchema for Kind {
    fn schema() -> RefOr<Schema> {
        let kinds = ["change", "transfer", "hold", "capture", "release", "expiry"];
        Object::builder()
            .schema_type(Type::String)
            .enum_values(Some(kinds))
            .description(Some("The kind of the operation"))
            .examples([json!("change")])
            .into()
    }
}

/// The schema of a difference of two balances, or of held money.
pub(in crate::http) struct Difference;

impl PartialSchema for Difference {
    fn schema() -> RefOr<Schema> {
        whole_number(-i64::MAX, i64::MAX)
            .description(Some(
                "Minor units (cents) that were added, or taken where it is below zero: \
                 -9223372036854775807 to 9223372036854775807",
            ))
            .examples([json!(-2)])
            .into()
    }
}

impl ToSchema for Kind {}
impl ToSchema for Difference {}
