//! Builds responses from text and bytes that are complete.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use super::wire::JSON;

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
