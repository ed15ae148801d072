//! The header `Host`, which hyper does not check.

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, Version, header};
use axum::response::IntoResponse;

use super::error::HttpError;

/// Whether the request is as RFC 9112, section 3.2, has it: of HTTP/1.1 with exactly one `Host`.
pub(super) fn is_valid<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => true,
        (None, None) => request.version() < Version::HTTP_11,
        _ => false,
    }
}

/// Like the responses to the other malformed heads, which hyper makes.
pub(super) fn refusal() -> Response<Body> {
    let mut response = HttpError::MalformedHead.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
