//! The parameters in path, query and headers.

use serde_json::json;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat};
use utoipa::openapi::{Ref, RefOr, Required, Schema};
use utoipa::{IntoParams, ToSchema};

use super::schemas::string;
use crate::approach::registry;
use crate::http::wire::{
    DOCS_FILES, HoldNumber, HoldState, LAST_EVENT_ID, PAGE_DEFAULT, PAGE_MAX, console_files,
    whole_number,
};
use crate::ledger::{Key, UserId};

/// `{approach}` in a path.
pub struct ApproachName;

impl IntoParams for ApproachName {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let names =
            string().enum_values(Some(registry::names())).examples([json!(registry::DEFAULT)]);
        vec![in_path("approach", "The approach that applies the change", names)]
    }
}

/// `{id}` in a path.
pub struct User;

impl IntoParams for User {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = Ref::from_schema_name(UserId::name());
        vec![in_path("id", "The user's number", id)]
    }
}

/// `{file}` in a path.
pub struct DocsFile;

impl IntoParams for DocsFile {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let names = string().enum_values(Some(DOCS_FILES.map(|(name, _)| name)));
        vec![in_path("file", "A file that the page needs", names)]
    }
}

/// `{file}` in the path of the console's files.
pub struct ConsoleFile;

impl IntoParams for ConsoleFile {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let names = string().enum_values(Some(console_files()));
        vec![in_path("file", "A file that the page needs", names)]
    }
}

/// `{hold}` in a path.
pub struct Hold;

impl IntoParams for Hold {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let hold = Ref::from_schema_name(HoldNumber::name());
        vec![in_path("hold", "The hold's number", hold)]
    }
}

/// The page of a history: `limit` and `before`.
pub struct Page;

impl IntoParams for Page {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        page("changes", "versions")
    }
}

/// The page of holds: `state`, `limit` and `before`.
pub struct HoldsPage;

impl IntoParams for HoldsPage {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let state = optional("state", ParameterIn::Query)
            .description(Some("Only holds in this state"))
            .schema(Some(Ref::from_schema_name(HoldState::name())))
            .build();
        [vec![state], page("holds", "numbers")].concat()
    }
}

/// The moment of a balance: `at` or `version`.
pub struct Moment;

impl IntoParams for Moment {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let time = string()
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([json!("2026-01-31T12:00:00.123456Z")]);
        vec![
            optional("at", ParameterIn::Query)
                .description(Some(
                    "A moment as in RFC 3339, not later than now. Entries have whole microseconds, \
                     so finer digits make no difference. Either this or `version` is required",
                ))
                .schema(Some(time))
                .build(),
            optional("version", ParameterIn::Query)
                .description(Some(
                    "An entry of the history, or 0 for the time before the first one. Not more \
                     than the user's version",
                ))
                .schema(Some(whole_number(0, i64::MAX)))
                .build(),
        ]
    }
}

/// Where a stream of events begins.
pub struct Position;

impl IntoParams for Position {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let version = || whole_number(0, i64::MAX);
        vec![
            optional(LAST_EVENT_ID, ParameterIn::Header)
                .description(Some(
                    "The version after which the stream begins: the `id` of the last event that the \
                     client has seen. Not more than the user's version. Without it, the stream begins \
                     with what follows the user's version now",
                ))
                .schema(Some(version()))
                .build(),
            optional("after", ParameterIn::Query)
                .description(Some(
                    "The same, for clients that cannot send the header. Where both are sent, the \
                     header counts: `EventSource` sends it when it connects again, to the same URL",
                ))
                .schema(Some(version()))
                .build(),
        ]
    }
}

fn page(items: &str, numbers: &str) -> Vec<Parameter> {
    let limit = whole_number(1, PAGE_MAX).default(Some(json!(PAGE_DEFAULT)));
    let before = whole_number(1, i64::MAX);
    vec![
        optional("limit", ParameterIn::Query)
            .description(Some(format!("The most {items} on the page")))
            .schema(Some(limit))
            .build(),
        optional("before", ParameterIn::Query)
            .description(Some(format!(
                "Only {items} with {numbers} below this one: the previous page's `next`. \
                 1 to 9223372036854775807",
            )))
            .schema(Some(before))
            .build(),
    ]
}

/// `Idempotency-Key`.
pub struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = string()
            .min_length(Some(1))
            // Two quotes, and a backslash before every character.
            .max_length(Some(2 * Key::LENGTH_MAX + 2))
            .pattern(Some(key_pattern()))
            .examples([json!("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"")]);
        vec![
            optional("Idempotency-Key", ParameterIn::Header)
                .description(Some(format!(
                    "With a key, a request takes effect at most once, however often it is sent; \
                     later responses replay the first. 1 to {} visible ASCII characters, bare or \
                     as a string in double quotes, in which `\\` precedes `\"` and `\\`. At most \
                     one such header. Without a key, two equal requests take effect twice.",
                    Key::LENGTH_MAX
                )))
                .schema(Some(key))
                .build(),
        ]
    }
}

/// `Idempotency-Key` of a bulk.
pub struct KeyOfAll;

impl IntoParams for KeyOfAll {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut keys = IdempotencyKey::into_params(place);
        for key in &mut keys {
            let description = key.description.take().unwrap_or_default();
            key.description = Some(format!(
                "For mode `all` only; otherwise each change has a key of its own. {description}"
            ));
        }
        keys
    }
}

/// The headers that connect a request with the logs of others. Every value is allowed: one that does not
/// fit is replaced or ignored.
pub(super) fn tracing() -> [Parameter; 2] {
    [
        optional("X-Request-Id", ParameterIn::Header)
            .description(Some(
                "The request's name in the log of the service, and in the response: 1 to 128 visible \
                 ASCII characters. The service makes one for a request that has none, or another",
            ))
            .schema(Some(string()))
            .build(),
        optional("Traceparent", ParameterIn::Header)
            .description(Some(
                "The trace that the request belongs to, by the W3C recommendation Trace Context. An \
                 invalid one is ignored",
            ))
            .schema(Some(string()))
            .build(),
    ]
}

/// A bare key does not begin with a quote; in a quoted one, quotes and backslashes are escaped.
fn key_pattern() -> String {
    let (most, rest) = (Key::LENGTH_MAX, Key::LENGTH_MAX - 1);
    format!(r#"^([!#-~][!-~]{{0,{rest}}}|"([!#-\[\]-~]|\\["\\]){{1,{most}}}")$"#)
}

fn in_path(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn optional(name: &str, place: ParameterIn) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place).required(Required::False)
}
