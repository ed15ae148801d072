//! HTTP: from a request to a [`Change`](crate::balance::Change) and from its result to an answer.
//!
//! [`router`] is the whole surface; [`server`] carries it over sockets. Handlers never see a
//! transaction, and [`error`] is the one place where a failure becomes a status and a body.

pub mod auth;
pub mod body;
pub mod changes;
pub mod error;
pub mod health;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::{get, patch};
use tower_http::catch_panic::CatchPanicLayer;

use crate::approach::Approaches;
use crate::store::Store;
use error::HttpError;

/// What the handlers need. Clones share it.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    approaches: Approaches,
    store: Store,
    tokens: auth::Tokens,
    body_limit: Duration,
}

impl State {
    /// `body_limit` is the time in which a request's body has to arrive.
    pub fn new(
        approaches: Approaches,
        store: Store,
        tokens: auth::Tokens,
        body_limit: Duration,
    ) -> Self {
        Self(Arc::new(Shared { approaches, store, tokens, body_limit }))
    }
}

/// All routes.
pub fn router(state: State) -> Router {
    let mut guarded =
        Router::new().route("/approach/{approach}/balance", patch(changes::by_approach));
    if state.0.tokens.are_required() {
        guarded =
            guarded.route_layer(middleware::from_fn_with_state(state.clone(), auth::require_token));
    }
    guarded
        // Never behind a token: a load balancer has none.
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(async || HttpError::NotFound)
        .method_not_allowed_fallback(async || HttpError::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(error::answer_to_panic))
        .with_state(state)
}
