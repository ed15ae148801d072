//! Answers from text and bytes that are ready to go.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

/// An answer of this content type.
pub fn of_type(kind: &'static str, content: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(content.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A JSON answer from text that is JSON already.
pub fn json(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = of_type("application/json", text);
    *response.status_mut() = status;
    response
}
