//! `POST /changes`: many changes in one request.
//!
//! - `each`: every change is decided for itself.
//! - `all`: everything or nothing.
//! - `stream`: any number of changes, each decided for itself.
//!
//! The changes always go through the lanes of `batched`, whichever approach is the default.

mod all;
mod each;
mod frame;
mod items;
mod lines;
mod stream;
mod window;
mod writer;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;

use self::frame::{Frame, Head, Mode};
use self::items::Items;
use super::app::App;
use super::body::{BODY, JsonBody, is_of_type, not_json};
use super::error::HttpError;
use super::openapi::{parameters, responses, schemas};
use super::wire::{BULK_BYTES_MAX, JSON, NDJSON};
use crate::ledger::AllOrNone;

/// Applies many changes, in the order of each user's changes.
///
/// As JSON, up to 1,000: mode `each` decides every change for itself, mode `all` applies everything or
/// nothing. As JSON lines, any number: one change a line, and one result a line while the request still
/// arrives.
#[utoipa::path(
    post, path = "/changes",
    operation_id = "applyChanges", tag = "Changes",
    params(parameters::KeyOfAll),
    request_body(content((schemas::Bulk = "application/json"), (String = "application/x-ndjson"))),
    responses(responses::OfBulk)
)]
pub async fn apply(State(app): State<App>, request: Request) -> Result<Response<Body>, HttpError> {
    if is_of_type(NDJSON, request.headers()) {
        return stream::respond(&app, request).await;
    }
    if !is_of_type(JSON, request.headers()) {
        return Err(HttpError::NotJsonOrLines);
    }
    let head = Head::of(request.headers());
    let body = JsonBody::up_to(BULK_BYTES_MAX, request)?;
    let parsed = {
        let _room = app.room.for_body(body.length_max())?;
        parse(head, &body.read(app.body_limit).await?)?
    };
    match parsed {
        Parsed::Each(changes) => each::apply(&app, changes).await,
        Parsed::All(changes) => all::apply(&app, changes).await,
    }
}

/// A bulk without the text that it came in.
enum Parsed {
    Each(Items),
    All(AllOrNone),
}

fn parse(head: Head, text: &[u8]) -> Result<Parsed, HttpError> {
    let text = str::from_utf8(text).map_err(|error| not_json(BODY, error))?;
    let Frame { mode, changes } = Frame::parse(text)?;
    Ok(match mode {
        Mode::Each => Parsed::Each(each::parse(&head, changes)?),
        Mode::All => Parsed::All(all::parse(head, changes)?),
    })
}
