//! `GET /openapi.json`, and `GET /docs`, which shows it in a browser with Swagger UI.
//!
//! All files are inside the executable, and the page's policy forbids the browser to load others.
//! `page.js` makes Swagger UI show numbers beyond 2^53 unrounded.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, StatusCode, header};

use super::app::{Segment, text};
use super::error::HttpError;
use super::openapi::{parameters, responses};
use super::page;
use super::response::json;
use super::wire::DOCS_FILES;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &[u8] = include_bytes!("page.js");

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
    responses(responses::Page)
)]
pub async fn show() -> Response<Body> {
    page::of_html(PAGE)
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
    let mut response = page::file(kind, content, ONE_HOUR);
    if gzipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
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
