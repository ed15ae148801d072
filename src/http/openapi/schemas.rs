//! The values that travel, with their limits.
//!
//! Limits beyond 2^53 stand in the descriptions as well: many a reader of the document keeps
//! numbers as floats, and shows `9223372036854775807` rounded.

use serde_json::json;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::balance::{self, Amount, UserId};

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
}

/// A change of the balance of the path's user.
#[derive(ToSchema)]
#[schema(examples(json!({ "amount": -2 })))]
pub struct ChangeOfBalance {
    /// By how much.
    pub amount: Amount,
}

/// A user to be created.
#[derive(ToSchema)]
#[schema(examples(json!({ "balance": 10_000 })))]
pub struct NewUser {
    /// The opening balance; 0 where it is missing or null.
    pub balance: Option<Balance>,
}

/// The balance right after a change.
#[derive(ToSchema)]
pub struct NewBalance {
    /// What the user owns now.
    pub balance: Balance,
}

/// The answer of a health check.
#[derive(ToSchema)]
pub struct Status {
    /// What is well.
    pub status: String,
}

/// A balance; `balance::Balance` is a plain number and so cannot say its limits itself.
pub struct Balance;

impl PartialSchema for Balance {
    fn schema() -> RefOr<Schema> {
        whole_number(0, balance::Balance::MAX)
            .description(Some("What a user owns, in minor units (cents): 0 to 9223372036854775807"))
            .examples([json!(10_000)])
            .into()
    }
}

impl ToSchema for Balance {}

impl PartialSchema for UserId {
    fn schema() -> RefOr<Schema> {
        whole_number(1, i64::MAX)
            .description(Some("A user's number: 1 to 9223372036854775807"))
            .examples([json!(UserId::FIRST.get())])
            .into()
    }
}

impl ToSchema for UserId {}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        whole_number(-i64::MAX, i64::MAX)
            .description(Some(
                "By how much, in minor units (cents): -9223372036854775807 to \
                 9223372036854775807. Below zero withdraws; 0 changes nothing and reads the \
                 balance",
            ))
            .examples([json!(-2)])
            .into()
    }
}

impl ToSchema for Amount {}

/// Counts a user's changes.
pub struct Version;

impl PartialSchema for Version {
    fn schema() -> RefOr<Schema> {
        whole_number(1, i64::MAX)
            .description(Some("The number of a user's change: 1, 2, 3 … without a gap"))
            .examples([json!(1)])
            .into()
    }
}

impl ToSchema for Version {}

/// A 64-bit integer within limits.
pub(super) fn whole_number(least: i64, most: i64) -> ObjectBuilder {
    Object::builder()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(least))
        .maximum(Some(most))
}
