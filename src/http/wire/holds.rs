//! A user's holds.

use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{Balance, Count, Held, whole_number};
use crate::ledger::{self, Reference};

/// The states of a hold.
pub(in crate::http) const HOLD_STATES: [&str; 4] = ["open", "captured", "released", "expired"];

/// A page of a user's holds, newest first, and the user at the same moment.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Holds {
    #[schema(value_type = Balance)]
    pub(in crate::http) balance: ledger::Balance,
    #[schema(value_type = Held)]
    pub(in crate::http) held: ledger::Balance,
    #[schema(value_type = Count)]
    pub(in crate::http) version: i64,
    /// With a `state`, a page may have fewer holds than asked for, even if it is not the last one.
    pub(in crate::http) holds: Vec<Hold>,
    /// Pass it as `before` to get the next page; null on the last page.
    #[schema(value_type = Option<HoldNumber>, required)]
    pub(in crate::http) next: Option<ledger::HoldNumber>,
}

/// One hold.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Hold {
    #[schema(value_type = HoldNumber)]
    pub(in crate::http) hold: ledger::HoldNumber,
    /// How much was set aside, in minor units (cents): 1 to 9223372036854775807.
    #[schema(minimum = 1)]
    pub(in crate::http) amount: ledger::Balance,
    /// How much of it was captured; the rest was released with it.
    #[schema(minimum = 0)]
    pub(in crate::http) captured: ledger::Balance,
    #[schema(value_type = HoldState)]
    pub(in crate::http) state: String,
    /// The client's own text, if the hold has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Reference>, nullable = false)]
    pub(in crate::http) reference: Option<String>,
    /// UTC, with microseconds.
    #[schema(format = DateTime)]
    pub(in crate::http) created_at: String,
    /// From this moment on it can no longer be captured.
    #[schema(format = DateTime)]
    pub(in crate::http) expires_at: String,
    /// When it was captured, released or expired; missing while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    pub(in crate::http) resolved_at: Option<String>,
}

/// The schema of the number of a hold.
pub(in crate::http) struct HoldNumber;

impl PartialSchema for HoldNumber {
    fn schema() -> RefOr<Schema> {
        whole_number(1, i64::MAX)
            .description(Some("The number of a user's hold: the version that made it"))
            .examples([json!(7)])
            .into()
    }
}

/// The schema of the state of a hold.
pub(in crate::http) struct HoldState;

impl PartialSchema for HoldState {
    fn schema() -> RefOr<Schema> {
        Object::builder()
            .schema_type(Type::String)
            .enum_values(Some(HOLD_STATES))
            .description(Some(
                "Whether the money is still set aside, or how that has ended. A hold whose time is \
                 over is open until its expiry is in the history",
            ))
            .examples([json!("open")])
            .into()
    }
}

impl ToSchema for HoldNumber {}
impl ToSchema for HoldState {}
