//! `GET /metrics`, for Prometheus and its kin.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use super::App;
use super::answer::of_type;
use super::openapi::answers;

/// The text format of OpenMetrics.
pub(super) const TEXT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Shows what the service has counted since it started.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "showMetrics",
    tag = "Service",
    responses(answers::Counted)
)]
pub async fn show(State(app): State<App>) -> Response<Body> {
    of_type(TEXT_TYPE, app.approaches.metrics())
}
