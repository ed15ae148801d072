//! The responses of each operation, by status.
//!
//! Statuses and sentences of errors come from [`HttpError`] itself, so they cannot drift apart.

mod bulk;
mod by_status;
mod console;
mod operations;

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{Content, RefOr};
use utoipa::{IntoResponses, ToSchema};

pub use self::bulk::OfBulk;
pub use self::console::{BalanceChart, ConsoleAccess, ConsoleCharts, ConsoleFiles};
pub use self::operations::{OfCapture, OfRelease, OfReserve, OfTransfer};

use self::by_status::{ByStatus, Responses, always, one_of};
use super::schemas::{NewBalance, Status, string};
use crate::http::error::HttpError;
use crate::http::wire::{
    self, AMOUNT_REQUIRED, AT_OR_VERSION, AT_RULE, BalanceThen, Changes, DOCS_FILES, EVENT_STREAM,
    HOLD_STATES, HTML, INSUFFICIENT, JSON, LAST_EVENT_ID, OPENMETRICS, PAGE_MAX, REFERENCE_RULE,
    USER_REQUIRED, User, UserNow,
};
use crate::ledger::ChangeError;

/// A change through the approach of the path.
pub struct ChangeThroughApproach;

impl IntoResponses for ChangeThroughApproach {
    fn responses() -> Responses {
        change()
            .error(HttpError::UnknownApproach, "the path names no approach")
            .error(HttpError::bad_request(USER_REQUIRED), "a member is missing or null")
            .build()
    }
}

/// A change of the path's user.
pub struct ChangeThroughDefault;

impl IntoResponses for ChangeThroughDefault {
    fn responses() -> Responses {
        let required = HttpError::bad_request(AMOUNT_REQUIRED);
        change().error(required, "the amount is missing or null").build()
    }
}

fn change() -> ByStatus {
    let number = "amount must be a whole number from -9223372036854775807 to 9223372036854775807";
    ByStatus::default()
        .success(
            StatusCode::OK,
            "Applied and durable",
            &json!({ "balance": 9_998 }),
            NewBalance::name(),
        )
        .error(HttpError::bad_request(INSUFFICIENT), "the balance would go below zero")
        .error(HttpError::bad_request(number), "malformed: the sentence says what must be")
        .error(HttpError::bad_request(REFERENCE_RULE), "the reference cannot be shown")
        .error(ChangeError::BalanceOutOfRange, "the sum does not fit into 64 bits")
        .error(ChangeError::UserNotFound, "no user has this number")
        .error(ChangeError::KeyInProgress, "try again, with the same key")
        .error(ChangeError::KeyReused, "nothing was changed")
        .body()
        .database("not applied, try again", "retry with the same key to learn the outcome")
        .header(StatusCode::OK, "Idempotent-Replayed", replayed())
        .header(StatusCode::BAD_REQUEST, "Idempotent-Replayed", replayed())
}

/// The creation of a user.
pub struct Creation;

impl IntoResponses for Creation {
    fn responses() -> Responses {
        let number = "balance must be a whole number from 0 to 9223372036854775807";
        let user = json!({ "id": 2, "balance": 10_000 });
        ByStatus::default()
            .success(StatusCode::CREATED, "Created and durable", &user, User::name())
            .error(HttpError::bad_request(number), "malformed: the sentence says what must be")
            .error(ChangeError::KeyReused, "nothing was created")
            .body()
            .database("not created, try again", "retry with the same key to learn the outcome")
            .header(StatusCode::CREATED, "Location", location())
            .header(StatusCode::CREATED, "Idempotent-Replayed", replayed())
            .build()
    }
}

/// A user.
pub struct OneUser;

impl IntoResponses for OneUser {
    fn responses() -> Responses {
        let user = json!({ "id": 1, "balance": 9_998, "held": 0, "version": 2 });
        read().success(StatusCode::OK, "The user as of now", &user, UserNow::name()).build()
    }
}

/// A user at a moment.
pub struct BalanceAtMoment;

impl IntoResponses for BalanceAtMoment {
    fn responses() -> Responses {
        let then = json!({
            "balance": 9_500, "held": 500, "version": 7, "at": "2026-01-31T12:00:00.123456Z"
        });
        let later = "at must not be later than now, which is 2026-01-31T12:00:00.123456Z";
        let beyond = "version must not be more than the user's, which is 7";
        read()
            .success(StatusCode::OK, "The user at that moment", &then, BalanceThen::name())
            .error(HttpError::bad_request(AT_OR_VERSION), "none, or both")
            .error(HttpError::bad_request(AT_RULE), "malformed: the sentence says what must be")
            .error(HttpError::bad_request(later), "what is to come is not known")
            .error(HttpError::bad_request(beyond), "the history has no such entry yet")
            .build()
    }
}

/// A page of a history.
pub struct History;

impl IntoResponses for History {
    fn responses() -> Responses {
        let page = json!({
            "changes": [{
                "version": 2, "kind": "change", "amount": -2, "heldAmount": 0,
                "balance": 9_998, "held": 0, "createdAt": "2026-01-31T12:00:00.123456Z",
                "reference": "invoice 17", "key": "8e03978e"
            }, {
                "version": 1, "kind": "capture", "amount": 300, "heldAmount": 0,
                "balance": 10_000, "held": 0, "createdAt": "2026-01-31T11:00:00.000000Z",
                "peer": { "user": 2, "version": 3 }
            }],
            "next": 1
        });
        let limit = format!("limit must be a whole number from 1 to {PAGE_MAX}");
        read()
            .success(StatusCode::OK, "A page, newest first", &page, Changes::name())
            .error(HttpError::bad_request(limit), "malformed: the sentence says what must be")
            .build()
    }
}

/// New entries of a history.
pub struct Events;

impl IntoResponses for Events {
    fn responses() -> Responses {
        let events = concat!(
            "retry: 1500\nid: 1\nevent: state\n",
            "data: {\"balance\":10000,\"held\":0,\"version\":1}\n\n",
            "id: 2\nevent: change\n",
            "data: {\"version\":2,\"kind\":\"change\",\"amount\":-2,\"heldAmount\":0,\"balance\":9998,",
            "\"held\":0,\"createdAt\":\"2026-01-31T12:00:00.123456Z\"}\n\n",
        );
        let content = ContentBuilder::new().schema(Some(string())).example(Some(json!(events)));
        let beyond =
            format!("{LAST_EVENT_ID} must not be more than the user's version, which is 7");
        let busy = ChangeError::Busy("too many streams of events are open");
        read()
            .content(
                "The events, until the client or the service ends",
                EVENT_STREAM,
                content.build(),
            )
            .error(
                HttpError::not_in_range(LAST_EVENT_ID, 0, i64::MAX),
                "malformed: the sentence says what must be",
            )
            .error(HttpError::bad_request(beyond), "the history has no such entry")
            .error(busy, "too many streams of events are open")
            .build()
    }
}

/// A hold.
pub struct OneHold;

impl IntoResponses for OneHold {
    fn responses() -> Responses {
        let number = "The hold must be a whole number from 1 to 9223372036854775807";
        read()
            .success(StatusCode::OK, "The hold as of now", &open_hold(), wire::Hold::name())
            .error(HttpError::bad_request(number), "malformed: the sentence says what must be")
            .error(ChangeError::HoldNotFound, "the user has no hold of this number")
            .build()
    }
}

/// A page of holds.
pub struct Holds;

impl IntoResponses for Holds {
    fn responses() -> Responses {
        let page = json!({
            "balance": 9_500, "held": 500, "version": 7, "holds": [open_hold()], "next": null
        });
        let state = format!("state must be one of {}", HOLD_STATES.join(", "));
        read()
            .success(StatusCode::OK, "A page, newest first", &page, wire::Holds::name())
            .error(HttpError::bad_request(state), "malformed: the sentence says what must be")
            .build()
    }
}

fn open_hold() -> Value {
    json!({
        "hold": 7, "amount": 500, "captured": 0, "state": "open", "reference": "room 12",
        "createdAt": "2026-01-31T12:00:00.123456Z", "expiresAt": "2026-02-07T12:00:00.123456Z"
    })
}

fn read() -> ByStatus {
    let number = "The user id must be a whole number from 1 to 9223372036854775807";
    ByStatus::default()
        .error(HttpError::bad_request(number), "malformed: the sentence says what must be")
        .error(ChangeError::UserNotFound, "no user has this number")
        .database_of_a_read("the database did not respond in time, try again")
}

/// The check that the process runs.
pub struct Alive;

impl IntoResponses for Alive {
    fn responses() -> Responses {
        let body = json!({ "status": "ok" });
        ByStatus::default().success(StatusCode::OK, "It runs", &body, Status::name()).build()
    }
}

/// The check that the database responds.
pub struct Ready;

impl IntoResponses for Ready {
    fn responses() -> Responses {
        let body = json!({ "status": "ready" });
        ByStatus::default()
            .success(StatusCode::OK, "The database responds", &body, Status::name())
            .error(HttpError::NotReady, "changes would not be applied")
            .build()
    }
}

/// The counters.
pub struct Metrics;

impl IntoResponses for Metrics {
    fn responses() -> Responses {
        ByStatus::default().content("Counters since the start", OPENMETRICS, text()).build()
    }
}

/// This document.
pub struct Document;

impl IntoResponses for Document {
    fn responses() -> Responses {
        let object = Content::new(Some(Object::with_type(Type::Object)));
        ByStatus::default().content("This document", JSON, object).build()
    }
}

/// A page.
pub struct Page;

impl IntoResponses for Page {
    fn responses() -> Responses {
        ByStatus::default().content("A page", HTML, text()).build()
    }
}

/// The files of the page that shows this document.
pub struct DocsFiles;

impl IntoResponses for DocsFiles {
    fn responses() -> Responses {
        DOCS_FILES
            .into_iter()
            .fold(ByStatus::default(), |all, (_, kind)| all.content("The file", kind, text()))
            .error(HttpError::NotFound, "there is no such file")
            .build()
    }
}

/// Every route that requires a token.
pub(super) fn unauthorized() -> Responses {
    let why = "tokens are configured, and none or a wrong one was sent";
    ByStatus::default().error(HttpError::Unauthorized, why).build()
}

/// Every route that requires a token.
pub(super) fn forbidden() -> Responses {
    let why = "the token was not given the operation's scope";
    ByStatus::default().error(HttpError::Forbidden, why).build()
}

/// Every route.
pub(super) fn wrong_method() -> Responses {
    ByStatus::default().error(HttpError::MethodNotAllowed, "the path has other methods").build()
}

/// Every route, because such a head is refused before its route is known.
pub(super) fn head_too_large() -> Responses {
    let why = "no request needs a head that long; the connection is closed";
    ByStatus::default().error(HttpError::HeadTooLarge, why).build()
}

/// Adds responses to an operation.
pub(super) fn add(operation: &mut Operation, responses: Responses) {
    operation.responses.responses.extend(responses);
}

/// Adds the headers that every response has.
pub(super) fn trace(operation: &mut Operation) {
    let id = always("The name of the request in the log", string().pattern(Some("^[!-~]{1,128}$")));
    let description = "Present if the request had a valid one: the same trace, with the request's own \
                       id as the parent";
    let pattern = "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$";
    let parent = HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(string().pattern(Some(pattern))))
        .build();
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("X-Request-Id".into(), id.clone().into());
            response.headers.insert("Traceparent".into(), parent.clone().into());
        }
    }
}

fn replayed() -> Header {
    let description = "Present if the key was used before and this response replays its outcome";
    HeaderBuilder::new().description(Some(description)).schema(Some(one_of("true"))).build()
}

fn location() -> Header {
    always("The new user", string().pattern(Some("^/users/[1-9][0-9]*$")))
}

fn text() -> Content {
    Content::new(Some(string()))
}
