//! Builds responses from text and bytes that are complete.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::wire::JSON;
use crate::ledger::ChangeError;

/// A response of this content type.
pub fn of_type(kind: &'static str, content: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(content.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A JSON response; `text` must be JSON already.
pub fn json(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = of_type(JSON, text);
    *response.status_mut() = status;
    response
}

/// The text of a body.
///
/// # Errors
/// [`ChangeError::Internal`], which no type of this service leads to.
pub fn to_json(body: &impl Serialize) -> Result<String, ChangeError> {
    serde_json::to_string(body).map_err(|error| ChangeError::Internal(error.into()))
}
