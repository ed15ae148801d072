//! `POST /users`, `GET /users/{id}` and `GET /users/{id}/changes`.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::json;
use super::body::{members, read_json, whole_number};
use super::error::HttpError;
use super::openapi::{answers, parameters, schemas};
use super::{App, Segment, key, path_user};
use crate::balance::{Amount, Balance, ChangeError, UserId};
use crate::store::journal::Entry;

/// Changes on a page where no limit is asked for, and the most that can be.
pub(super) const PAGE: i64 = 50;
pub(super) const PAGE_MAX: i64 = 500;

/// A user and its balance.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    #[schema(value_type = UserId)]
    id: i64,
    #[schema(value_type = schemas::Balance)]
    balance: Balance,
}

/// A page of a user's history, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Changes {
    changes: Vec<Shown>,
    /// Pass it as `before` to get the next page; null where there is none.
    #[schema(value_type = Option<schemas::Version>, required)]
    next: Option<i64>,
}

/// One accepted change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Change)]
struct Shown {
    #[schema(value_type = schemas::Version)]
    version: i64,
    #[schema(value_type = Amount)]
    amount: i64,
    /// Right after the change.
    #[schema(value_type = schemas::Balance)]
    balance: Balance,
    /// UTC, with microseconds.
    #[schema(format = DateTime)]
    created_at: String,
    /// The key that the change came with, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$", nullable = false)]
    key: Option<String>,
}

impl From<Entry> for Shown {
    fn from(entry: Entry) -> Self {
        let Entry { version, amount, balance, created_at, key } = entry;
        Self { version, amount, balance, created_at, key }
    }
}

/// Creates a user with an opening balance.
#[utoipa::path(
    post, path = "/users",
    operation_id = "createUser", tag = "Users",
    params(parameters::IdempotencyKey),
    request_body = schemas::NewUser, responses(answers::Creation)
)]
pub async fn create(State(app): State<App>, request: Request) -> Result<Response<Body>, HttpError> {
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [balance] = members(&body, ["balance"])?;
    let balance = balance.map_or(Ok(0), |value| whole_number("balance", value, 0))?;
    let created = app.store.create_user(balance, key).await?;
    let mut response = json(StatusCode::CREATED, text(&User { id: created.id, balance })?);
    let headers = response.headers_mut();
    // Digits and slashes always make a header value.
    if let Ok(location) = HeaderValue::from_str(&format!("/users/{}", created.id)) {
        headers.insert(header::LOCATION, location);
    }
    if created.replayed {
        let (name, value) = key::REPLAYED;
        headers.insert(name, value);
    }
    Ok(response)
}

/// Shows a user.
#[utoipa::path(
    get,
    path = "/users/{id}",
    operation_id = "showUser",
    tag = "Users",
    params(parameters::User),
    responses(answers::OneUser)
)]
pub async fn show(State(app): State<App>, id: Segment) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let balance = app.store.balance(user).await?;
    Ok(json(StatusCode::OK, text(&User { id: user.get(), balance })?))
}

/// Shows a page of a user's history.
#[utoipa::path(
    get,
    path = "/users/{id}/changes",
    operation_id = "listChanges",
    tag = "Users",
    params(parameters::User, parameters::Page),
    responses(answers::History)
)]
pub async fn changes(
    State(app): State<App>,
    id: Segment,
    uri: Uri,
) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let Page { limit, before } = Page::parse(uri.query().unwrap_or_default())?;
    // One more than asked for tells whether there is a next page.
    let mut entries = app.store.history(user, before, limit + 1).await?;
    let more = entries.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if more {
        entries.pop();
    }
    let next = entries.last().map(|entry| entry.version).filter(|_| more);
    let changes = entries.into_iter().map(Shown::from).collect();
    Ok(json(StatusCode::OK, text(&Changes { changes, next })?))
}

fn text(answer: &impl Serialize) -> Result<String, HttpError> {
    serde_json::to_string(answer)
        .map_err(|error| HttpError::Change(ChangeError::Internal(error.into())))
}

/// Which page of the history.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    limit: i64,
    before: i64,
}

impl Page {
    fn parse(query: &str) -> Result<Self, HttpError> {
        let (mut limit, mut before) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (slot, most) = match name {
                "limit" => (&mut limit, PAGE_MAX),
                "before" => (&mut before, i64::MAX),
                _ => {
                    return Err(HttpError::bad_request(format!(
                        "Unknown parameter {name:?}; there are limit and before"
                    )));
                }
            };
            if slot.is_some() {
                return Err(HttpError::bad_request(format!("{name} must not be given twice")));
            }
            *slot = Some(number(name, value, most)?);
        }
        Ok(Self { limit: limit.unwrap_or(PAGE), before: before.unwrap_or(i64::MAX) })
    }
}

fn number(name: &str, value: &str, most: i64) -> Result<i64, HttpError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| digits && (1..=most).contains(number));
    number.ok_or_else(|| {
        HttpError::bad_request(format!("{name} must be a whole number from 1 to {most}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_defaults_and_bounds() {
        assert_eq!(Page::parse("").unwrap(), Page { limit: 50, before: i64::MAX });
        assert_eq!(Page::parse("before=7&limit=500").unwrap(), Page { limit: 500, before: 7 });
        for (query, sentence) in [
            ("limit=0", "limit must be a whole number from 1 to 500"),
            ("limit=501", "limit must be a whole number from 1 to 500"),
            ("limit=abc", "limit must be a whole number from 1 to 500"),
            ("limit=+5", "limit must be a whole number from 1 to 500"),
            ("limit", "limit must be a whole number from 1 to 500"),
            ("before=-1", "before must be a whole number from 1 to 9223372036854775807"),
            ("limit=1&limit=1", "limit must not be given twice"),
            ("after=1", "Unknown parameter \"after\"; there are limit and before"),
        ] {
            assert_eq!(Page::parse(query).unwrap_err().to_string(), sentence, "{query}");
        }
    }
}
