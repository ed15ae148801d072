//! HTTP: turns a request into a [`Change`](crate::ledger::Change), and its result into a response.
//!
//! [`router`] has all routes; [`server`] serves it on sockets. Handlers never see a transaction.
//! [`error`] is the one place that maps an error to a status and a body. [`observe`] stands between the
//! two: ids, metrics, and the log.
//!
//! Imports point one way: routes → handlers → [`openapi`] → [`error`] → [`wire`].

mod app;
pub mod auth;
pub mod balance_at;
pub mod body;
pub mod bulk;
pub mod changes;
mod connection;
pub mod decided;
pub mod docs;
pub mod error;
pub mod health;
pub mod holding;
pub mod holds;
mod host;
pub mod key;
pub mod leaving;
pub mod metrics;
pub mod observe;
pub mod openapi;
mod places;
mod query;
mod refusal;
mod refuser;
pub mod response;
pub mod room;
pub mod server;
mod streaming;
pub mod transfers;
pub mod users;
pub mod wire;

use std::convert::Infallible;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::routing::patch_service;
use axum::{Extension, Router, middleware};
use futures_util::FutureExt;
use tower::service_fn;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::approach::registry;
use error::HttpError;

use observe::{Front, ObserverParts};

pub use app::{App, Parts};

/// All routes, and what observes their requests.
pub fn front(app: App, parts: &ObserverParts) -> Front {
    Front::new(router(app), &document(), parts)
}

/// All routes.
pub fn router(app: App) -> Router {
    // One fixed route for each approach besides the parameterized one: extracting the name from the
    // path takes an eighth of a request's time in user space. A service instead of a handler,
    // because a handler's future holds the request until the response is ready.
    let mut guarded = registry::names().fold(guarded(), |routes, name| {
        let app = app.clone();
        let change = service_fn(move |request| {
            changes::through(app.clone(), name, request).map(Ok::<_, Infallible>)
        });
        routes.route(&format!("/approach/{name}/balance"), patch_service(change))
    });
    if app.tokens.are_required() {
        let tokens = app.tokens.clone();
        guarded = guarded.route_layer(middleware::from_fn_with_state(tokens, auth::require_token));
    }
    let (routes, _) = guarded.merge(open()).split_for_parts();
    routes
        .fallback(async || HttpError::NotFound)
        .method_not_allowed_fallback(async || HttpError::MethodNotAllowed)
        .with_state(app)
}

/// The contract of all routes, as OpenAPI 3.1.
pub fn document() -> OpenApi {
    openapi::document(guarded().into_openapi(), open().into_openapi())
}

/// The text of [`document`], made once: the routes do not change while the service runs.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = document().to_pretty_json();
    text.expect("strings, numbers and maps with string keys are always JSON").into()
});

/// The routes that require a token, if any token is configured. Each handler's annotation has the
/// path and the method.
fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(changes::by_approach))
        .routes(routes!(changes::by_user))
        .routes(routes!(bulk::apply))
        .routes(routes!(users::create))
        .routes(routes!(users::show))
        .routes(routes!(users::changes))
        .routes(routes!(transfers::create))
        .routes(routes!(holding::reserve))
        .routes(routes!(holding::capture))
        .routes(routes!(holding::release))
        .routes(routes!(balance_at::show))
        .routes(routes!(holds::list))
        .routes(routes!(holds::show))
        .routes(routes!(metrics::show))
}

/// The routes that never require a token: a load balancer has none, and a browser that opens a page
/// sends none. These routes reveal nothing about any user.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(docs::document).layer(Extension(&DOCUMENT)))
        .routes(routes!(docs::page))
        .routes(routes!(docs::file))
}
