//! `GET /openapi.json`, and `GET /docs`, which shows it in a browser with Swagger UI.
//!
//! All files are inside the executable, and the page's policy forbids the browser to load others.
//! `page.js` makes Swagger UI show numbers beyond 2^53 unrounded.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::app::{Segment, text};
use super::error::HttpError;
use super::openapi::{parameters, responses};
use super::response::{json, of_type};
use super::wire::{DOCS_FILES, HTML};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &[u8] = include_bytes!("page.js");

/// As strict as Swagger UI works with. It draws its icons from `data:` addresses, and fetches the
/// document and everything that is tried out from the page's own origin.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The headers of the page. No page of another origin may show it or learn its address, and a browser
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

/// The files change only with the executable.
const ONE_HOUR: HeaderValue = HeaderValue::from_static("max-age=3600");

/// Shows this document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "showDocument",
    tag = "Service",
    responses(responses::Document)
)]
// The text comes with the route, because only the routes together know the whole document.
pub async fn document(Extension(text): Extension<&'static LazyLock<Bytes>>) -> Response<Body> {
    json(StatusCode::OK, Bytes::clone(text))
}

/// Shows this document in a browser.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "showDocs",
    tag = "Service",
    responses(responses::DocsPage)
)]
pub async fn page() -> Response<Body> {
    let mut response = of_type(HTML, PAGE);
    response.headers_mut().extend(OF_PAGE);
    response
}

/// Sends a file that the page needs.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    operation_id = "sendDocsFile",
    tag = "Service",
    params(parameters::DocsFile),
    responses(responses::DocsFiles)
)]
pub async fn file(name: Segment) -> Result<Response<Body>, HttpError> {
    let name = text(name);
    let found = DOCS_FILES.into_iter().find(|(known, _)| *known == name);
    let (name, kind) = found.ok_or(HttpError::NotFound)?;
    let (content, gzipped) = match name {
        "page.js" => (Bytes::from_static(SCRIPT), false),
        _ => embedded(name).ok_or(HttpError::NotFound)?,
    };
    let mut response = of_type(kind, content);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, ONE_HOUR);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if gzipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// A file of Swagger UI, and whether it is compressed.
fn embedded(name: &str) -> Option<(Bytes, bool)> {
    // The configuration is for Swagger UI's own start script, which the page does not use.
    let file = utoipa_swagger_ui::serve(name, Arc::default()).ok()??;
    let content = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    Some((content, file.gzpipped))
}
