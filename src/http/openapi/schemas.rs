//! The schemas of the bodies that the service reads or writes without a type of its own.

use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::http::wire::Balance;
use crate::ledger::{Amount, HoldPeriod, Payment, Reference, UserId};

/// The body of every error.
#[derive(ToSchema)]
pub struct Error {
    /// A sentence that says what is wrong and, where it helps, what would be right.
    #[schema(min_length = 1)]
    pub error: String,
}

/// A change of one user's balance.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({ "userId": 1, "amount": -2 })))]
pub struct ChangeOfUser {
    /// Whose balance.
    pub user_id: UserId,
    /// By how much.
    pub amount: Amount,
    /// Shown in the history; missing or null for none.
    pub reference: Option<Reference>,
}

/// A change of the balance of the path's user.
#[derive(ToSchema)]
#[schema(examples(json!({ "amount": -2 })))]
pub struct ChangeOfBalance {
    /// By how much.
    pub amount: Amount,
    /// Shown in the history; missing or null for none.
    pub reference: Option<Reference>,
}

/// A user to be created.
#[derive(ToSchema)]
#[schema(examples(json!({ "balance": 10_000 })))]
pub struct NewUser {
    /// The opening balance; 0 if it is missing or null.
    pub balance: Option<Balance>,
}

/// Money that goes from one user to another.
#[derive(ToSchema)]
#[schema(examples(json!({ "from": 1, "to": 2, "amount": 500, "reference": "invoice 17" })))]
pub struct NewTransfer {
    /// Who pays.
    pub from: UserId,
    /// Who is paid; another user.
    pub to: UserId,
    /// How much.
    pub amount: Payment,
    /// Shown in both histories; missing or null for none.
    pub reference: Option<Reference>,
}

/// Money to set aside.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({ "amount": 500, "expiresInSeconds": 604_800 })))]
pub struct NewHold {
    /// How much.
    pub amount: Payment,
    /// How long it can be captured; missing or null for seven days.
    pub expires_in_seconds: Option<HoldPeriod>,
    /// Shown in the history; missing or null for none.
    pub reference: Option<Reference>,
}

/// What to take of a hold.
#[derive(ToSchema)]
#[schema(examples(json!({ "amount": 300, "to": 2 }), json!({})))]
pub struct NewCapture {
    /// At most the hold's amount, the rest goes back; missing or null for everything.
    pub amount: Option<Payment>,
    /// Who gets it, another user; missing or null where it leaves the ledger.
    pub to: Option<UserId>,
}

/// Nothing: an empty object.
#[derive(ToSchema)]
#[schema(examples(json!({})))]
pub struct NewRelease {}

/// The balance right after a change.
#[derive(ToSchema)]
pub struct NewBalance {
    /// What the user owns now.
    pub balance: Balance,
}

/// The body of a successful health check.
#[derive(ToSchema)]
pub struct Status {
    /// The state that was checked.
    pub status: String,
}

/// A string.
pub(super) fn string() -> ObjectBuilder {
    ObjectBuilder::from(Object::with_type(Type::String))
}
