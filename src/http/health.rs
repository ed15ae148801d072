//! `GET /healthz` and `GET /readyz`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use tokio::time::timeout;

use super::App;
use super::answer::json;
use super::error::HttpError;
use super::openapi::answers;

/// A database that takes longer than this for nothing at all is not ready for anything.
const READY_LIMIT: Duration = Duration::from_secs(2);

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

/// The database answers.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = "Service",
    responses(answers::Ready)
)]
pub async fn ready(State(app): State<App>) -> Result<Response<Body>, HttpError> {
    match timeout(READY_LIMIT, app.store.ping()).await {
        Ok(Ok(())) => Ok(json(StatusCode::OK, r#"{"status":"ready"}"#)),
        Ok(Err(_)) | Err(_) => Err(HttpError::NotReady),
    }
}
