//! `POST /users`, `GET /users/{id}` and `GET /users/{id}/changes`.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};

use super::app::{App, Segment, path_user};
use super::body::{members, read_json, whole_number};
use super::error::{HttpError, OfUser};
use super::key;
use super::openapi::{parameters, responses, schemas};
use super::query::{self, Page};
use super::response::{json, to_json};
use super::wire::{AppliedChange, Changes, Peer, User, UserNow};
use crate::store::history::Entry;
use crate::store::users;

impl From<Entry> for AppliedChange {
    fn from(entry: Entry) -> Self {
        let peer = entry.peer_user.zip(entry.peer_version);
        Self {
            version: entry.version,
            kind: entry.kind,
            amount: entry.amount,
            held_amount: entry.held_amount,
            balance: entry.balance,
            held: entry.held,
            created_at: entry.created_at.to_string(),
            reference: entry.reference,
            key: entry.key,
            hold: entry.hold,
            peer: peer.map(|(user, version)| Peer { user, version }),
        }
    }
}

/// Creates a user with an opening balance.
#[utoipa::path(
    post, path = "/users",
    operation_id = "createUser", tag = "Users",
    params(parameters::IdempotencyKey),
    request_body = schemas::NewUser, responses(responses::Creation)
)]
pub async fn create(State(app): State<App>, request: Request) -> Result<Response<Body>, HttpError> {
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [balance] = members(&body, ["balance"])?;
    let balance = balance.map_or(Ok(0), |value| whole_number("balance", value, 0))?;
    let created = app.store.create_user(balance, key).await?;
    let mut response = json(StatusCode::CREATED, to_json(&User { id: created.id, balance })?);
    let headers = response.headers_mut();
    // Digits and slashes are always a valid header value.
    if let Ok(location) = HeaderValue::from_str(&format!("/users/{}", created.id)) {
        headers.insert(header::LOCATION, location);
    }
    if created.replayed {
        headers.extend([key::REPLAYED]);
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
    responses(responses::OneUser)
)]
pub async fn show(State(app): State<App>, id: Segment) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let users::User { balance, held, version } = app.store.user(user).await.of_user(user)?;
    Ok(json(StatusCode::OK, to_json(&UserNow { id: user.get(), balance, held, version })?))
}

/// Shows a page of a user's history.
#[utoipa::path(
    get,
    path = "/users/{id}/changes",
    operation_id = "listChanges",
    tag = "Users",
    params(parameters::User, parameters::Page),
    responses(responses::History)
)]
pub async fn changes(
    State(app): State<App>,
    id: Segment,
    uri: Uri,
) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let [limit, before] = query::parameters(uri.query(), ["limit", "before"])?;
    let Page { limit, before } = Page::of(&limit, &before)?;
    // One entry beyond the limit tells whether there is a next page.
    let mut entries = app.store.history(user, before, limit + 1).await.of_user(user)?;
    let more = entries.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if more {
        entries.pop();
    }
    let next = entries.last().map(|entry| entry.version).filter(|_| more);
    let changes = entries.into_iter().map(AppliedChange::from).collect();
    Ok(json(StatusCode::OK, to_json(&Changes { changes, next })?))
}
