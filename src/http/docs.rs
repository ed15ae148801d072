//! `GET /docs`: the contract in a browser. Swagger UI, from files inside the executable.
//!
//! Nothing comes from elsewhere, and the browser is told to see to that. Numbers beyond 2^53 are
//! shown as they are; see `page.js` for how.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};

use super::Segment;
use super::answer::of_type;
use super::error::HttpError;
use super::openapi::{answers, parameters};

/// The type of the page.
pub(super) const PAGE_TYPE: &str = "text/html; charset=utf-8";

const PAGE: &str = include_str!("docs/page.html");

/// Swagger UI writes style attributes, and draws its icons from `data:` addresses.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The files change only with the executable.
const ONE_HOUR: HeaderValue = HeaderValue::from_static("max-age=3600");

/// What the page needs: the name, the type, and our own content where it is not Swagger UI's.
const FILES: [(&str, &str, Option<&[u8]>); 3] = [
    ("swagger-ui.css", "text/css", None),
    ("swagger-ui-bundle.js", "text/javascript", None),
    ("page.js", "text/javascript", Some(include_bytes!("docs/page.js"))),
];

/// The names of the files of the page.
pub(super) fn file_names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, ..)| *name)
}

/// Their types.
pub(super) fn file_types() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(_, kind, _)| *kind)
}

/// Shows this document in a browser.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "showDocs",
    tag = "Service",
    responses(answers::DocsPage)
)]
pub async fn page() -> Response<Body> {
    let mut response = of_type(PAGE_TYPE, PAGE);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// Sends a file that the page needs.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    operation_id = "sendDocsFile",
    tag = "Service",
    params(parameters::DocsFile),
    responses(answers::DocsFiles)
)]
pub async fn file(name: Segment) -> Result<Response<Body>, HttpError> {
    let name = name.map(|axum::extract::Path(name)| name).unwrap_or_default();
    let found = FILES.into_iter().find(|(known, ..)| *known == name);
    let (name, kind, own) = found.ok_or(HttpError::NotFound)?;
    let (content, gzipped) = match own {
        Some(own) => (Bytes::from_static(own), false),
        None => embedded(name).ok_or(HttpError::NotFound)?,
    };
    let mut response = of_type(kind, content);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, ONE_HOUR);
    if gzipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// A file of Swagger UI, and whether it is compressed.
fn embedded(name: &str) -> Option<(Bytes, bool)> {
    // The configuration is for Swagger UI's own start script, which is not used here.
    let file = utoipa_swagger_ui::serve(name, Arc::default()).ok()??;
    let content = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    Some((content, file.gzpipped))
}
