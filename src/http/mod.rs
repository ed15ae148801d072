//! HTTP: from a request to a [`Change`](crate::balance::Change) and from its result to an answer.
//!
//! [`router`] is the whole surface; [`server`] carries it over sockets. Handlers never see a
//! transaction, and [`error`] is the one place where a failure becomes a status and a body.

pub mod answer;
pub mod auth;
pub mod body;
pub mod changes;
mod connection;
pub mod docs;
pub mod error;
pub mod health;
pub mod key;
pub mod metrics;
pub mod openapi;
mod places;
mod refusal;
pub mod server;
pub mod users;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::middleware;
use axum::routing::patch_service;
use futures_util::FutureExt;
use tower::service_fn;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::approach::{self, Approaches};
use crate::balance::UserId;
use crate::store::Store;
use crate::store::readiness::Readiness;
use error::HttpError;

/// What the handlers need. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// The ways to apply a change.
    pub approaches: Approaches,
    /// For everything that is no change.
    pub store: Store,
    /// Whether the database takes changes.
    pub readiness: Readiness,
    /// Who is let in.
    pub tokens: auth::Tokens,
    /// The time in which a request's body has to arrive.
    pub body_limit: Duration,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// All routes.
pub fn router(app: App) -> Router {
    // Each approach once more, without a parameter: to take one out of the path is an eighth of
    // what a request costs beside the kernel's part. As a service, since a handler's future holds
    // the request for as long as it is answered.
    let mut guarded = approach::names().fold(guarded(), |routes, name| {
        let app = app.clone();
        let change = service_fn(move |request| {
            changes::through(app.clone(), name, request).map(Ok::<_, Infallible>)
        });
        routes.route(&format!("/approach/{name}/balance"), patch_service(change))
    });
    if app.tokens.are_required() {
        guarded =
            guarded.route_layer(middleware::from_fn_with_state(app.clone(), auth::require_token));
    }
    let (routes, _) = guarded.merge(open()).split_for_parts();
    routes
        .fallback(async || HttpError::NotFound)
        .method_not_allowed_fallback(async || HttpError::MethodNotAllowed)
        .with_state(app)
}

/// The routes that ask for a token, where any are configured. Paths and methods stand at the
/// handlers.
fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(changes::by_approach))
        .routes(routes!(changes::by_user))
        .routes(routes!(users::create))
        .routes(routes!(users::show))
        .routes(routes!(users::changes))
        .routes(routes!(metrics::show))
}

/// The routes that are never behind a token: a load balancer has none, and a browser sends none
/// when it opens a page. Nothing here tells anything about anybody.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::show))
        .routes(routes!(docs::page))
        .routes(routes!(docs::file))
}

/// A part of the path, which may not even be text.
type Segment = Result<Path<String>, PathRejection>;

/// The user of a path such as `/users/7`.
fn path_user(id: Segment) -> Result<UserId, HttpError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let number = id.parse().ok().filter(|_| digits).unwrap_or(0);
    body::user_id("The user id", number)
}
