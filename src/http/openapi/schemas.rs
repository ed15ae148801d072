//! The schemas of the bodies that the service reads or writes without a type of its own.

use utoipa::openapi::schema::{
    AnyOfBuilder, Object, ObjectBuilder, OneOfBuilder, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

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

/// Many changes.
#[derive(ToSchema)]
#[schema(examples(json!({
    "mode": "each", "changes": [{ "userId": 1, "amount": -2, "key": "pay-1" }]
})))]
pub struct Bulk {
    /// `each`, the default: every change is decided for itself. `all`: everything or nothing.
    #[schema(pattern = "^(each|all)$")]
    pub mode: Option<String>,
    /// Up to 1,000; more are a 413. The changes of one user are decided in this order.
    #[schema(min_items = 1)]
    pub changes: Vec<ItemOfBulk>,
}

/// A change of a bulk, or anything else: that gets a result of its own.
pub struct ItemOfBulk;

impl PartialSchema for ItemOfBulk {
    fn schema() -> RefOr<Schema> {
        let other = "Anything else is that item's own 400, or in mode all that of the whole";
        AnyOfBuilder::new()
            .item(Ref::from_schema_name(ChangeOfBulk::name()))
            .item(Schema::Object(
                ObjectBuilder::from(Object::default())
                    .description(Some(other))
                    .schema_type(SchemaType::AnyValue)
                    .build(),
            ))
            .into()
    }
}

impl ToSchema for ItemOfBulk {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ChangeOfBulk::name().into(), ChangeOfBulk::schema()));
        ChangeOfBulk::schemas(schemas);
    }
}

/// A change in a bulk.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({ "userId": 1, "amount": -2, "key": "pay-1" })))]
pub struct ChangeOfBulk {
    /// Whose balance.
    pub user_id: UserId,
    /// By how much.
    pub amount: Amount,
    /// With a key, the change happens at most once. Not in mode `all`, whose key is in the header.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    pub key: Option<String>,
    /// Shown in the history; missing or null for none.
    pub reference: Option<Reference>,
}

/// The results of a bulk, in the order of its changes.
#[derive(ToSchema)]
#[schema(examples(json!({ "results": [
    { "balance": 9_998 }, { "status": 400, "error": "Insufficient funds" }
] })))]
pub struct Results {
    /// One for each change.
    #[schema(min_items = 1, max_items = 1_000)]
    pub results: Vec<ResultOfChange>,
}

/// The result of one change of a bulk: what it answers as a request of its own, and the status where
/// that is not 200.
pub struct ResultOfChange;

impl PartialSchema for ResultOfChange {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(Ref::from_schema_name(NewBalance::name()))
            .item(Ref::from_schema_name(FailedChange::name()))
            .description(Some("The result of one change: its balance, or its error"))
            .into()
    }
}

impl ToSchema for ResultOfChange {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((FailedChange::name().into(), FailedChange::schema()));
    }
}

/// The error of one change of a bulk.
#[derive(ToSchema)]
pub struct FailedChange {
    /// The status that the change would have had as a request of its own.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// A sentence that says what is wrong and, where it helps, what would be right.
    #[schema(min_length = 1)]
    pub error: String,
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
