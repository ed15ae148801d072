//! The answers of each operation, status by status.
//!
//! Statuses and sentences of errors are those of [`HttpError`] itself, so they cannot drift apart.

mod collected;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::json;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{Content, RefOr, Response};
use utoipa::{IntoResponses, ToSchema};

use self::collected::{Answers, always, one_of, string};
use super::schemas::{NewBalance, Status};
use crate::balance::ChangeError;
use crate::http::error::HttpError;
use crate::http::{changes, docs, metrics, users};

type Responses = BTreeMap<String, RefOr<Response>>;

/// Of a change through an approach that the path names.
pub struct ChangeThroughApproach;

impl IntoResponses for ChangeThroughApproach {
    fn responses() -> Responses {
        change()
            .error(HttpError::UnknownApproach, "the path names no approach")
            .error(HttpError::bad_request(changes::USER_REQUIRED), "a member is missing or null")
            .list()
    }
}

/// Of a change of the path's user.
pub struct ChangeThroughDefault;

impl IntoResponses for ChangeThroughDefault {
    fn responses() -> Responses {
        let required = HttpError::bad_request(changes::AMOUNT_REQUIRED);
        change().error(required, "the amount is missing or null").list()
    }
}

fn change() -> Answers {
    let number = "amount must be a whole number from -9223372036854775807 to 9223372036854775807";
    Answers::default()
        .success(
            StatusCode::OK,
            "Applied and durable",
            &json!({ "balance": 9_998 }),
            NewBalance::name(),
        )
        .error(HttpError::bad_request(changes::INSUFFICIENT), "it would cross the line")
        .error(HttpError::bad_request(number), "malformed: the sentence says what must be")
        .error(ChangeError::BalanceOutOfRange, "the sum does not fit into 64 bits")
        .error(ChangeError::UserNotFound, "nobody has this number")
        .error(ChangeError::KeyInProgress, "try again, with the same key")
        .error(ChangeError::KeyReused, "nothing was changed")
        .body()
        .database("not applied, try again", "retry with the same key to learn the outcome")
        .header(StatusCode::OK, "Idempotent-Replayed", replayed())
        .header(StatusCode::BAD_REQUEST, "Idempotent-Replayed", replayed())
}

/// Of the creation of a user.
pub struct Creation;

impl IntoResponses for Creation {
    fn responses() -> Responses {
        let number = "balance must be a whole number from 0 to 9223372036854775807";
        let user = json!({ "id": 2, "balance": 10_000 });
        Answers::default()
            .success(StatusCode::CREATED, "Created and durable", &user, users::User::name())
            .error(HttpError::bad_request(number), "malformed: the sentence says what must be")
            .error(ChangeError::KeyReused, "nothing was created")
            .body()
            .database("not created, try again", "retry with the same key to learn the outcome")
            .header(StatusCode::CREATED, "Location", location())
            .header(StatusCode::CREATED, "Idempotent-Replayed", replayed())
            .list()
    }
}

/// Of looking at a user.
pub struct OneUser;

impl IntoResponses for OneUser {
    fn responses() -> Responses {
        let user = json!({ "id": 1, "balance": 9_998 });
        read().success(StatusCode::OK, "The user as of now", &user, users::User::name()).list()
    }
}

/// Of looking at a page of a history.
pub struct History;

impl IntoResponses for History {
    fn responses() -> Responses {
        let page = json!({
            "changes": [{
                "version": 2, "amount": -2, "balance": 9_998,
                "createdAt": "2026-01-31T12:00:00.123456Z", "key": "8e03978e"
            }],
            "next": 2
        });
        let limit = format!("limit must be a whole number from 1 to {}", users::PAGE_MAX);
        read()
            .success(StatusCode::OK, "A page, newest first", &page, users::Changes::name())
            .error(HttpError::bad_request(limit), "malformed: the sentence says what must be")
            .list()
    }
}

fn read() -> Answers {
    let number = "The user id must be a whole number from 1 to 9223372036854775807";
    Answers::default()
        .error(HttpError::bad_request(number), "malformed: the sentence says what must be")
        .error(ChangeError::UserNotFound, "nobody has this number")
        .database_of_a_read("the database did not answer in time, try again")
}

/// Of the question whether the process runs.
pub struct Alive;

impl IntoResponses for Alive {
    fn responses() -> Responses {
        let body = json!({ "status": "ok" });
        Answers::default().success(StatusCode::OK, "It runs", &body, Status::name()).list()
    }
}

/// Of the question whether the database answers.
pub struct Ready;

impl IntoResponses for Ready {
    fn responses() -> Responses {
        let body = json!({ "status": "ready" });
        Answers::default()
            .success(StatusCode::OK, "The database answers", &body, Status::name())
            .error(HttpError::NotReady, "changes would not be applied")
            .list()
    }
}

/// Of looking at what was counted.
pub struct Counted;

impl IntoResponses for Counted {
    fn responses() -> Responses {
        let kind = metrics::TEXT_TYPE;
        Answers::default().content("Counters since the start", kind, text()).list()
    }
}

/// Of this document.
pub struct Document;

impl IntoResponses for Document {
    fn responses() -> Responses {
        let object = Content::new(Some(Object::with_type(Type::Object)));
        Answers::default().content("This document", "application/json", object).list()
    }
}

/// Of the page that shows this document.
pub struct DocsPage;

impl IntoResponses for DocsPage {
    fn responses() -> Responses {
        Answers::default().content("A page", docs::PAGE_TYPE, text()).list()
    }
}

/// Of the files of that page.
pub struct DocsFiles;

impl IntoResponses for DocsFiles {
    fn responses() -> Responses {
        docs::file_types()
            .fold(Answers::default(), |all, kind| all.content("The file", kind, text()))
            .error(HttpError::NotFound, "there is no such file")
            .list()
    }
}

/// Of every route that a token guards.
pub(super) fn unauthorized() -> Responses {
    let why = "tokens are configured, and none or a wrong one was sent";
    Answers::default().error(HttpError::Unauthorized, why).list()
}

/// Of every route.
pub(super) fn wrong_method() -> Responses {
    Answers::default().error(HttpError::MethodNotAllowed, "the path has other methods").list()
}

/// Of every route, too: the head is refused before it is known which one it asks for.
pub(super) fn head_too_large() -> Responses {
    let why = "no request needs a head that long; the connection is closed";
    Answers::default().error(HttpError::HeadTooLarge, why).list()
}

/// Adds answers to an operation that has others already.
pub(super) fn add(operation: &mut Operation, answers: Responses) {
    operation.responses.responses.extend(answers);
}

fn replayed() -> Header {
    let description = "Present where the key was used before, and this is what came of it then";
    HeaderBuilder::new().description(Some(description)).schema(Some(one_of("true"))).build()
}

fn location() -> Header {
    always("The new user", string().pattern(Some("^/users/[1-9][0-9]*$")))
}

fn text() -> Content {
    Content::new(Some(string()))
}
