//! HTTP: turns a request into a [`Change`](crate::ledger::Change), and its result into a response.
//!
//! [`router`] has all routes, or [`public_router`] and [`internal_router`] share them; [`server`] serves
//! them on sockets. Handlers never see a transaction. [`error`] is the one place that maps an error to a
//! status and a body. [`observe`] stands between the two: ids, metrics, and the log.
//!
//! Imports point one way: routes → handlers → [`openapi`] → [`error`] → [`wire`].

mod accepting;
mod app;
pub mod auth;
pub mod balance_at;
pub mod body;
pub mod bulk;
pub mod changes;
mod connection;
pub mod console;
pub mod credentials;
pub mod decided;
pub mod docs;
pub mod error;
pub mod events;
pub mod health;
pub mod holding;
pub mod holds;
mod host;
pub mod key;
pub mod leaving;
pub mod listener;
pub mod metrics;
pub mod observe;
pub mod openapi;
mod page;
mod places;
mod query;
mod refusal;
mod refuser;
pub mod response;
pub mod room;
pub mod server;
mod streaming;
pub mod tls;
pub mod transfers;
pub mod users;
pub mod wire;

use std::convert::Infallible;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::FromRef;
use axum::routing::patch_service;
use axum::{Extension, Router, middleware};
use futures_util::FutureExt;
use tower::service_fn;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::approach::registry;
use crate::config::tokens::Scope;
use auth::Tokens;
use console::Access;
use error::HttpError;

use observe::{Front, ObserverParts};

pub use app::{App, Internal, MetricsText, Parts};

/// Some of the routes, and what observes their requests.
pub fn front(router: Router, parts: &ObserverParts) -> Front {
    Front::new(router, &document(), parts)
}

/// All routes on one address.
pub fn router(app: App) -> Router {
    let tokens = app.tokens.clone();
    let routes = api(&app).merge(guard(metrics(), &tokens, Scope::Metrics));
    let access = Access { tokens, has_users: true, has_service: true };
    finished(routes.merge(health()).merge(docs()).merge(console(access)), app)
}

/// The routes of the public address, if metrics and docs have an internal one.
pub fn public_router(app: App) -> Router {
    let access = Access { tokens: app.tokens.clone(), has_users: true, has_service: false };
    finished(api(&app).merge(health()).merge(console(access)), app)
}

/// The routes of the internal address.
pub fn internal_router(internal: Internal, tokens: &Tokens) -> Router {
    let routes = guard(metrics(), tokens, Scope::Metrics);
    let access = Access { tokens: tokens.clone(), has_users: false, has_service: true };
    finished(routes.merge(health()).merge(docs()).merge(console(access)), internal)
}

/// The contract of all routes, as OpenAPI 3.1.
pub fn document() -> OpenApi {
    let guarded = [
        (Scope::Write, writing().into_openapi()),
        (Scope::Read, reading().into_openapi()),
        (Scope::Metrics, metrics::<Internal>().into_openapi()),
    ];
    let access = Access { tokens: Tokens::new(Vec::new()), has_users: true, has_service: true };
    let open = health::<Internal>().merge(docs()).merge(console(access));
    openapi::document(guarded, open.into_openapi())
}

/// The text of [`document`], made once: the routes do not change while the service runs.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = document().to_pretty_json();
    text.expect("strings, numbers and maps with string keys are always JSON").into()
});

fn finished<S>(routes: OpenApiRouter<S>, state: S) -> Router
where
    S: Clone + Send + Sync + 'static,
{
    let (routes, _) = routes.split_for_parts();
    routes
        .fallback(async || HttpError::NotFound)
        .method_not_allowed_fallback(async || HttpError::MethodNotAllowed)
        .with_state(state)
}

/// Everything about balances.
fn api(app: &App) -> OpenApiRouter<App> {
    // One fixed route for each approach besides the parameterized one: extracting the name from the
    // path takes an eighth of a request's time in user space. A service instead of a handler,
    // because a handler's future holds the request until the response is ready.
    let writing = registry::names().fold(writing(), |routes, name| {
        let app = app.clone();
        let change = service_fn(move |request| {
            changes::through(app.clone(), name, request).map(Ok::<_, Infallible>)
        });
        routes.route(&format!("/approach/{name}/balance"), patch_service(change))
    });
    let reading = guard(reading(), &app.tokens, Scope::Read);
    guard(writing, &app.tokens, Scope::Write).merge(reading)
}

/// Makes these routes require a token of that scope, if any token is configured.
fn guard<S>(routes: OpenApiRouter<S>, tokens: &Tokens, scope: Scope) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    if !tokens.are_required() {
        return routes;
    }
    let guard = auth::Guard { tokens: tokens.clone(), scope };
    routes.route_layer(middleware::from_fn_with_state(guard, auth::require_token))
}

/// The routes that change something. Each handler's annotation has the path and the method.
fn writing() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(changes::by_approach))
        .routes(routes!(changes::by_user))
        .routes(routes!(bulk::apply))
        .routes(routes!(users::create))
        .routes(routes!(transfers::create))
        .routes(routes!(holding::reserve))
        .routes(routes!(holding::capture))
        .routes(routes!(holding::release))
}

/// The routes that show users, their histories and their holds.
fn reading() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(users::show))
        .routes(routes!(users::changes))
        .routes(routes!(events::watch))
        .routes(routes!(balance_at::show))
        .routes(routes!(holds::list))
        .routes(routes!(holds::show))
        .routes(routes!(console::balance))
}

fn metrics<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Internal: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(metrics::show)).routes(routes!(console::charts))
}

/// Routes that never require a token, because a load balancer has none. They reveal nothing about
/// any user.
fn health<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Internal: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(health::alive)).routes(routes!(health::ready))
}

/// Routes that never require a token, because a browser that opens a page sends none.
fn docs<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    OpenApiRouter::new()
        .routes(routes!(docs::document).layer(Extension(&DOCUMENT)))
        .routes(routes!(docs::show))
        .routes(routes!(docs::file))
}

/// The console itself, which is as open as the docs: each address shows there what it serves.
fn console<S>(access: Access) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    OpenApiRouter::new()
        .routes(routes!(console::show))
        .routes(routes!(console::file))
        .routes(routes!(console::access).layer(Extension(access)))
}
