//! Mode `each`: every change is decided for itself, and the results come in the order of the changes.
//!
//! A malformed change is answered with its own 400 and leaves its neighbours alone.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::value::RawValue;

use super::frame::Head;
use super::items::{self, Items, write_result};
use crate::http::app::App;
use crate::http::error::HttpError;
use crate::http::response::json;
use crate::http::wire::KEYS_OF_CHANGES;

pub(super) fn parse(head: &Head, changes: Vec<&RawValue>) -> Result<Items, HttpError> {
    if head.has_key {
        return Err(HttpError::bad_request(KEYS_OF_CHANGES));
    }
    let mut items = Items::default();
    changes.into_iter().for_each(|text| items.push(items::change(text.get())));
    Ok(items)
}

pub(super) async fn apply(app: &App, items: Items) -> Result<Response<Body>, HttpError> {
    let mut text = String::with_capacity(items.len() * 32);
    let (changes, unanswered) = items.split();
    let answers = app.approaches.bulk().apply_each(changes).await?;
    text.push_str("{\"results\":[");
    let before = text.len();
    let failures = unanswered.with(&answers, |result| {
        if text.len() > before {
            text.push(',');
        }
        write_result(&mut text, result);
    });
    text.push_str("]}");
    let mut response = json(StatusCode::OK, text);
    if !failures.is_empty() {
        response.extensions_mut().insert(failures.into_reasons());
    }
    Ok(response)
}
