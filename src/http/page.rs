//! The headers of pages and of their files, all of which are inside the executable.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};

use super::response::of_type;
use super::wire::HTML;

/// As strict as the pages work with. Swagger UI draws its icons from `data:` addresses, and fetches the
/// document and everything that is tried out from the page's own origin.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The headers of a page. No page of another origin may show it or learn its address, and a browser
/// asks again after an upgrade. No `Strict-Transport-Security`: it would hold for every port of the
/// host.
const OF_PAGE: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, NOSNIFF),
    // For browsers that do not know `frame-ancestors`.
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// A browser takes the page's files for what their type says, and nothing else.
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A page.
pub(super) fn of_html(text: &'static str) -> Response<Body> {
    let mut response = of_type(HTML, text);
    response.headers_mut().extend(OF_PAGE);
    response
}

/// A file that a page needs, and how long a browser may keep it.
pub(super) fn file(
    kind: &'static str,
    content: impl Into<Body>,
    cache: HeaderValue,
) -> Response<Body> {
    let mut response = of_type(kind, content);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
