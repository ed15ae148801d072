//! `GET /healthz` and `GET /readyz`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use tokio::time::timeout;

use super::App;
use super::error::{HttpError, json};

/// A database that takes longer than this for nothing at all is not ready for anything.
const READY_LIMIT: Duration = Duration::from_secs(2);

/// The process runs. Says nothing about the database, so that a restart is not asked for in vain.
pub async fn alive() -> Response<Body> {
    json(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// The database answers.
pub async fn ready(State(app): State<App>) -> Result<Response<Body>, HttpError> {
    match timeout(READY_LIMIT, app.store.ping()).await {
        Ok(Ok(())) => Ok(json(StatusCode::OK, r#"{"status":"ready"}"#)),
        Ok(Err(_)) | Err(_) => Err(HttpError::NotReady),
    }
}
