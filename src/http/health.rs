//! `GET /healthz` and `GET /readyz`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};

use super::app::Internal;
use super::error::HttpError;
use super::openapi::responses;
use super::response::json;

/// The process runs. Ignores the database: a restart of the service would not repair it.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "isAlive",
    tag = "Service",
    responses(responses::Alive)
)]
pub async fn alive() -> Response<Body> {
    json(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// The database takes changes, and the service is not about to stop.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = "Service",
    responses(responses::Ready)
)]
pub async fn ready(State(service): State<Internal>) -> Result<Response<Body>, HttpError> {
    if service.leaving.is_announced() {
        Err(HttpError::Leaving)
    } else if service.readiness.check().await {
        Ok(json(StatusCode::OK, r#"{"status":"ready"}"#))
    } else {
        Err(HttpError::NotReady)
    }
}
