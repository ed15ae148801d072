//! `GET /healthz` and `GET /readyz`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};

use super::App;
use super::answer::json;
use super::error::HttpError;
use super::openapi::answers;

/// The process runs. Says nothing about the database, so that a restart is not asked for in vain.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "isAlive",
    tag = "Service",
    responses(answers::Alive)
)]
pub async fn alive() -> Response<Body> {
    json(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// The database takes changes.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = "Service",
    responses(answers::Ready)
)]
pub async fn ready(State(app): State<App>) -> Result<Response<Body>, HttpError> {
    if app.readiness.check().await {
        Ok(json(StatusCode::OK, r#"{"status":"ready"}"#))
    } else {
        Err(HttpError::NotReady)
    }
}
