//! `GET /metrics`, for Prometheus and compatible collectors.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use super::app::Internal;
use super::openapi::responses;
use super::response::of_type;
use super::wire::OPENMETRICS;

/// Shows the service's counters since its start.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "showMetrics",
    tag = "Service",
    responses(responses::Metrics)
)]
pub async fn show(State(service): State<Internal>) -> Response<Body> {
    of_type(OPENMETRICS, (service.metrics)())
}
