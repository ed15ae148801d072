//! `GET /console`: a page for people on call, with its files and its data.
//!
//! The page is open to everybody, because a browser that opens one sends no token. It asks for a token, and
//! what it shows needs the scope of that: users and changes are the same requests as any client's, and the
//! charts are guarded like the history and the metrics that they are made of.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::app::{App, Internal, Segment, path_user, text};
use super::auth::Tokens;
use super::error::{HttpError, OfUser};
use super::openapi::{parameters, responses};
use super::page;
use super::query::{self, Page};
use super::response::{json, to_json};
use super::wire::{
    ConsoleAccess, ConsoleChart, ConsoleCharts, ConsoleSeries, SVG, console_file_type,
};
use crate::config::tokens::Scope;
use crate::console::{DrawnChart, DrawnSeries, FILES, PAGE, balance};
use crate::ledger::ChangeError;

/// A browser asks again each time, and gets the file that fits the page.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// What is shown is only true at the moment.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// How many charts are drawn at a time, whoever asks. The others wait, and keep no thread busy.
static DRAWING: Semaphore = Semaphore::const_new(2);

/// What a caller finds behind an address.
#[derive(Clone)]
pub struct Access {
    /// The tokens that open it.
    pub tokens: Tokens,
    /// Users are shown and changed here.
    pub has_users: bool,
    /// The service itself is shown here.
    pub has_service: bool,
}

/// Shows the console.
#[utoipa::path(
    get,
    path = "/console",
    operation_id = "showConsole",
    tag = "Service",
    responses(responses::Page)
)]
pub async fn show() -> Response<Body> {
    page::of_html(PAGE)
}

/// Sends a file that the console needs.
#[utoipa::path(
    get,
    path = "/console/files/{file}",
    operation_id = "sendConsoleFile",
    tag = "Service",
    params(parameters::ConsoleFile),
    responses(responses::ConsoleFiles)
)]
pub async fn file(name: Segment) -> Result<Response<Body>, HttpError> {
    let name = text(name);
    let file = FILES.iter().find(|file| file.name == name).ok_or(HttpError::NotFound)?;
    Ok(page::file(console_file_type(file.name), file.content, NO_CACHE))
}

/// Shows what the token of the request opens.
///
/// A wrong token is answered like none: the console then asks for another one.
#[utoipa::path(
    get,
    path = "/console/access",
    operation_id = "showConsoleAccess",
    tag = "Service",
    responses(responses::ConsoleAccess)
)]
pub async fn access(
    Extension(access): Extension<Access>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    let Access { tokens, has_users, has_service } = access;
    let known = tokens.known(&headers);
    let scopes: Vec<_> = match &known {
        Some((_, scopes)) => {
            Scope::ALL.into_iter().filter(|scope| scopes.include(*scope)).collect()
        }
        None if tokens.are_required() => Vec::new(),
        None => Scope::ALL.into(),
    };
    let body = ConsoleAccess {
        needs_token: tokens.are_required(),
        caller: known.map(|(name, _)| name.to_string()),
        scopes: scopes.into_iter().map(Scope::name).collect(),
        has_users,
        has_service,
    };
    Ok(fresh(json(StatusCode::OK, to_json(&body)?)))
}

/// Draws the charts of the last five minutes.
#[utoipa::path(
    get,
    path = "/console/charts",
    operation_id = "drawCharts",
    tag = "Service",
    responses(responses::ConsoleCharts)
)]
pub async fn charts(State(service): State<Internal>) -> Result<Response<Body>, HttpError> {
    let console = service.console;
    // Away from this thread: it takes milliseconds, in which others wait for their answers.
    let body = draw(move || {
        let charts = console.charts().iter().map(ConsoleChart::from).collect();
        to_json(&ConsoleCharts { charts })
    });
    Ok(fresh(json(StatusCode::OK, body.await??)))
}

/// Draws a page of a user's history.
///
/// The balance after each change.
#[utoipa::path(
    get,
    path = "/console/users/{id}/balance",
    operation_id = "drawBalance",
    tag = "Service",
    params(parameters::User, parameters::Page),
    responses(responses::BalanceChart)
)]
pub async fn balance(
    State(app): State<App>,
    id: Segment,
    uri: Uri,
) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let [limit, before] = query::parameters(uri.query(), ["limit", "before"])?;
    let Page { limit, before } = Page::of(&limit, &before)?;
    let entries = app.store.history(user, before, limit).await.of_user(user)?;
    let drawn = draw(move || balance::draw(&entries)).await?;
    let drawn = drawn.map_err(|error| ChangeError::Internal(error.into()))?;
    Ok(page::file(SVG, drawn, NO_STORE))
}

async fn draw<T: Send + 'static>(
    drawing: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HttpError> {
    let _turn = DRAWING.acquire().await.map_err(|error| ChangeError::Internal(error.into()))?;
    let drawn = spawn_blocking(drawing).await;
    Ok(drawn.map_err(|error| ChangeError::Internal(error.into()))?)
}

fn fresh(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

impl From<&DrawnChart> for ConsoleChart {
    fn from(DrawnChart { title, svg, series }: &DrawnChart) -> Self {
        let series = series.iter().map(|DrawnSeries { name, now, swatch }| ConsoleSeries {
            name: (*name).to_owned(),
            now: now.clone(),
            swatch: swatch.clone(),
        });
        Self { title: (*title).to_owned(), svg: svg.clone(), series: series.collect() }
    }
}
