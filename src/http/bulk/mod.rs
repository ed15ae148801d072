//! `POST /changes`: many changes in one request.
//!
//! - [`each`]: every change is decided for itself.
//! - [`all`]: everything or nothing.
//! - [`stream`]: any number of changes, each decided for itself.
//!
//! The changes always go through the lanes of `batched`, whichever approach is the default.

mod all;
mod each;
mod items;
mod lines;
mod room;
mod stream;
mod window;
mod writer;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use serde_json::value::RawValue;

use self::items::{Array, Items};
use super::app::App;
use super::body::{BODY, JsonBody, is_of_type, members_of, not_json, string};
use super::error::HttpError;
use super::key;
use super::openapi::{parameters, responses, schemas};
use super::wire::{BULK_BYTES_MAX, CHANGES_RULE, JSON, MODE_RULE, NDJSON};
use crate::ledger::{AllOrNone, Key};

pub use room::Room;

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
        let _room = app.bulk.for_body(body.length_max())?;
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

/// What a bulk needs of the request's head.
struct Head {
    /// Whether there is any key, valid or not.
    has_key: bool,
    key: Result<Option<Key>, HttpError>,
}

impl Head {
    fn of(headers: &HeaderMap) -> Self {
        Self { has_key: headers.contains_key(key::NAME), key: key::read(headers) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Each,
    All,
}

/// A bulk whose changes are not parsed yet.
struct Frame<'a> {
    mode: Mode,
    /// At least one.
    changes: Vec<&'a RawValue>,
}

impl<'a> Frame<'a> {
    fn parse(text: &'a str) -> Result<Self, HttpError> {
        let [mode, changes] = members_of(BODY, text, ["mode", "changes"])?;
        let mode = match mode.map(string) {
            None => Mode::Each,
            Some(Some(text)) if text == "each" => Mode::Each,
            Some(Some(text)) if text == "all" => Mode::All,
            Some(_) => return Err(HttpError::bad_request(MODE_RULE)),
        };
        match changes.map_or(Array::Other, items::array) {
            Array::Items(changes) if !changes.is_empty() => Ok(Self { mode, changes }),
            Array::TooLong => Err(HttpError::TooManyChanges),
            Array::Items(_) | Array::Other => Err(HttpError::bad_request(CHANGES_RULE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Mode, usize), String> {
        Frame::parse(text)
            .map(|frame| (frame.mode, frame.changes.len()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_frame_has_a_mode_and_changes() {
        assert_eq!(parse(r#"{"changes":[1,{}]}"#), Ok((Mode::Each, 2)));
        assert_eq!(parse(r#"{"mode":null,"changes":[1]}"#), Ok((Mode::Each, 1)));
        assert_eq!(parse(r#"{"mode":"\u0065ach","changes":[1]}"#), Ok((Mode::Each, 1)));
        assert_eq!(parse(r#"{"changes":[1],"mode":"all"}"#), Ok((Mode::All, 1)));
    }

    #[test]
    fn any_other_frame_is_refused_as_a_whole() {
        let unknown = "Unknown member \"to\"; the request body may have mode, changes";
        for (text, sentence) in [
            (r#"{"changes":[]}"#, CHANGES_RULE),
            (r#"{"changes":{}}"#, CHANGES_RULE),
            (r#"{"changes":null}"#, CHANGES_RULE),
            (r#"{"mode":"each"}"#, CHANGES_RULE),
            (r#"{"mode":"some","changes":[1]}"#, MODE_RULE),
            (r#"{"mode":1,"changes":[1]}"#, MODE_RULE),
            (r#"{"changes":[1],"to":2}"#, unknown),
            ("[1]", "The request body must be a JSON object with mode, changes"),
        ] {
            assert_eq!(parse(text), Err(sentence.to_owned()), "{text}");
        }
        let of = |count: usize| format!("{{\"changes\":[{}]}}", vec!["1"; count].join(","));
        assert_eq!(parse(&of(1_000)), Ok((Mode::Each, 1_000)));
        let too_many = "The request body must not have more than 1000 changes";
        assert_eq!(parse(&of(1_001)), Err(too_many.to_owned()));
    }
}
