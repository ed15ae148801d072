//! What travels between client and service: limits, sentences, content types, and JSON types with
//! their schemas.
//!
//! Every other file here may depend on this one, and it depends on none of them.

mod console;
mod history;
mod holds;
mod operations;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::ledger::{self, Amount, Payment, Reference, UserId};

pub(super) use console::{
    ConsoleAccess, ConsoleChart, ConsoleCharts, ConsoleSeries, SVG, console_file_type,
    console_files,
};
pub(super) use history::{AppliedChange, Changes, Peer, Standing};
pub(super) use holds::{HOLD_STATES, Hold, HoldNumber, HoldState, Holds};
pub(super) use operations::{
    AllDone, AppliedOfAll, HoldCaptured, HoldReleased, NewHoldDone, Side, TransferDone,
};

/// The longest body that is read, in bytes. The longest reference, with every character escaped
/// (`\ud83d\ude00`), takes 3,060 of them, and everything else about 100.
pub const BODY_BYTES_MAX: usize = 4096;

/// The longest body of a bulk, in bytes.
pub const BULK_BYTES_MAX: usize = 1024 * 1024;

/// The most changes in a bulk.
pub const BULK_CHANGES_MAX: usize = 1_000;

/// The longest line of a stream, in bytes, without its end. A key may be longer when it is escaped.
pub(super) const LINE_BYTES_MAX: usize = BODY_BYTES_MAX;

/// How much of a stream is read before it is answered, in bytes. A short line counts as if it had
/// [`LINE_COST_MIN`] bytes: so it is 8,192 lines, four batches of a lane.
pub(super) const WINDOW_BYTES: usize = 1024 * 1024;
pub(super) const LINE_COST_MIN: usize = 128;

/// The time between two heartbeats of a stream of events, at most. Shorter than the time-outs of proxies,
/// of which 30 s is a short one. Also the time after which a token that was taken back ends its streams.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// A client of events connects again after a random time between these, in milliseconds: when an instance
/// ends, its clients do not come to the others at the same moment.
pub(super) const RECONNECT_MILLIS: RangeInclusive<u32> = 500..=2_500;

/// The service reads and drops a body or a head that is too long, up to this many bytes. Otherwise
/// the connection would be reset, and the client would lose the response.
pub(super) const DRAINED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest request head that is read, in bytes. A request here needs a few hundred; proxies add
/// headers of their own. 10,000 connections that never finish their heads must fit into memory.
pub const HEAD_BYTES_MAX: usize = 16_384;

/// The most headers of a request: hyper's default. Any other limit costs an allocation a request.
pub(super) const HEADERS_MAX: usize = 100;

/// The changes on a page where the request gives no limit, and the highest limit.
pub(super) const PAGE_DEFAULT: i64 = 50;
pub(super) const PAGE_MAX: i64 = 500;

pub(super) const INSUFFICIENT: &str = "Insufficient funds";
pub(super) const USER_REQUIRED: &str = "userId and amount are required";
pub(super) const AMOUNT_REQUIRED: &str = "amount is required";
pub(super) const TRANSFER_REQUIRED: &str = "from, to and amount are required";
pub(super) const SAME_USER: &str = "from and to must be different users";
pub(super) const CAPTURE_TO_OWNER: &str = "to must be another user than the hold's";
pub(super) const KEY_RULE: &str = "key must be a string of 1 to 255 visible ASCII characters";
pub(super) const MODE_RULE: &str = "mode must be \"each\" or \"all\"";
pub(super) const CHANGES_RULE: &str = "changes must be an array of 1 to 1000 changes";
pub(super) const KEYS_OF_CHANGES: &str =
    "Idempotency-Key is for mode all: give each change a key of its own";
pub(super) const KEY_OF_ALL: &str =
    "key is not for mode all: send the header Idempotency-Key for all changes together";
pub(super) const REFERENCE_RULE: &str =
    "reference must be a string of 1 to 255 characters without control characters";

pub(super) const AT_OR_VERSION: &str = "Either at or version is required, and not both";
pub(super) const AT_RULE: &str =
    "at must be a time as in RFC 3339, such as 2026-01-31T12:00:00.123456Z";

pub(super) const LAST_EVENT_ID: &str = "Last-Event-ID";

pub(super) const EVENT_STREAM: &str = "text/event-stream";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const NDJSON: &str = "application/x-ndjson";
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The files that `/docs` needs, with their content types.
pub(super) const DOCS_FILES: [(&str, &str); 3] = [
    ("swagger-ui.css", "text/css"),
    ("swagger-ui-bundle.js", "text/javascript"),
    ("page.js", "text/javascript"),
];

/// A user and its balance.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    #[schema(value_type = UserId)]
    pub(super) id: i64,
    #[schema(value_type = Balance)]
    pub(super) balance: ledger::Balance,
}

/// A user as of now.
#[derive(Serialize, ToSchema)]
pub(super) struct UserNow {
    #[schema(value_type = UserId)]
    pub(super) id: i64,
    #[schema(value_type = Balance)]
    pub(super) balance: ledger::Balance,
    #[schema(value_type = Held)]
    pub(super) held: ledger::Balance,
    #[schema(value_type = Count)]
    pub(super) version: i64,
}

/// A user at a moment.
#[derive(Serialize, ToSchema)]
#[schema(as = BalanceAt)]
pub(super) struct BalanceThen {
    #[schema(value_type = Balance)]
    pub(super) balance: ledger::Balance,
    #[schema(value_type = Held)]
    pub(super) held: ledger::Balance,
    /// The last entry of the history that is not later; 0 before the first one.
    #[schema(value_type = Count)]
    pub(super) version: i64,
    /// UTC, with microseconds: the moment that was asked for; or when the entry of the version was
    /// made, or for version 0 the user.
    #[schema(format = DateTime)]
    pub(super) at: String,
}

/// The schema of a balance. `ledger::Balance` is a plain number and cannot have one of its own.
pub struct Balance;

impl PartialSchema for Balance {
    fn schema() -> RefOr<Schema> {
        whole_number(0, ledger::Balance::MAX)
            .description(Some("What a user owns, in minor units (cents): 0 to 9223372036854775807"))
            .examples([json!(10_000)])
            .into()
    }
}

/// The schema of held money.
pub struct Held;

impl PartialSchema for Held {
    fn schema() -> RefOr<Schema> {
        whole_number(0, ledger::Balance::MAX)
            .description(Some(
                "What is set aside by holds, in minor units (cents): 0 to 9223372036854775807",
            ))
            .examples([json!(0)])
            .into()
    }
}

impl PartialSchema for UserId {
    fn schema() -> RefOr<Schema> {
        whole_number(1, i64::MAX)
            .description(Some("A user's number: 1 to 9223372036854775807"))
            .examples([json!(UserId::FIRST.get())])
            .into()
    }
}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        whole_number(-i64::MAX, i64::MAX)
            .description(Some(
                "Minor units (cents) to add: -9223372036854775807 to 9223372036854775807. A \
                 negative amount withdraws; 0 changes nothing and reads the balance",
            ))
            .examples([json!(-2)])
            .into()
    }
}

impl PartialSchema for Payment {
    fn schema() -> RefOr<Schema> {
        whole_number(1, i64::MAX)
            .description(Some("Minor units (cents): 1 to 9223372036854775807"))
            .examples([json!(500)])
            .into()
    }
}

impl PartialSchema for ledger::HoldPeriod {
    fn schema() -> RefOr<Schema> {
        whole_number(1, Self::SECONDS_MAX)
            .description(Some("How long the hold can be captured, in seconds"))
            .default(Some(json!(Self::DEFAULT.seconds())))
            .into()
    }
}

/// The schema of a version, which counts a user's changes.
pub struct Version;

impl PartialSchema for Version {
    fn schema() -> RefOr<Schema> {
        whole_number(1, i64::MAX)
            .description(Some("The number of a user's change: 1, 2, 3 … without a gap"))
            .examples([json!(1)])
            .into()
    }
}

/// The schema of a number of changes.
pub struct Count;

impl PartialSchema for Count {
    fn schema() -> RefOr<Schema> {
        whole_number(0, i64::MAX)
            .description(Some("How many changes the user's history has"))
            .examples([json!(2)])
            .into()
    }
}

impl PartialSchema for Reference {
    fn schema() -> RefOr<Schema> {
        Object::builder()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(Self::LENGTH_MAX))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
            .description(Some(
                "The client's own text: 1 to 255 characters without control characters. The \
                 history shows it, and nothing interprets it",
            ))
            .examples([json!("invoice 17")])
            .into()
    }
}

impl ToSchema for Payment {}
impl ToSchema for ledger::HoldPeriod {}
impl ToSchema for Balance {}
impl ToSchema for Held {}
impl ToSchema for Count {}
impl ToSchema for Reference {}
impl ToSchema for UserId {}
impl ToSchema for Amount {}
impl ToSchema for Version {}

/// A 64-bit integer within limits.
///
/// A limit beyond 2^53 is in the description as well, because many tools that show the document
/// round it to a float.
pub(super) fn whole_number(least: i64, most: i64) -> ObjectBuilder {
    Object::builder()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(least))
        .maximum(Some(most))
}
