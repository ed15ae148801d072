//! `POST /users/{id}/holds` and what happens to a hold: reserve, capture, release. Reads are in
//! [`holds`](super::holds).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};

use super::app::{App, Segment, path_user};
use super::body::{members, payment, read_json, reference, user_id, whole_number};
use super::decided::decided;
use super::error::{HttpError, OfUser};
use super::holds::{Segments, path_hold};
use super::key;
use super::openapi::{parameters, responses, schemas};
use super::wire::{AMOUNT_REQUIRED, CAPTURE_TO_OWNER, HoldCaptured, HoldReleased, NewHoldDone};
use crate::ledger::{Capture, HoldPeriod, Operation, OperationDecision, Release, Reserve};

/// Sets money aside.
#[utoipa::path(
    post, path = "/users/{id}/holds",
    operation_id = "reserve", tag = "Holds",
    params(parameters::User, parameters::IdempotencyKey),
    request_body = schemas::NewHold, responses(responses::OfReserve)
)]
pub async fn reserve(
    State(app): State<App>,
    id: Segment,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [amount, seconds, text] = members(&body, ["amount", "expiresInSeconds", "reference"])?;
    let Some(amount) = amount else { return Err(HttpError::bad_request(AMOUNT_REQUIRED)) };
    let amount = payment("amount", amount)?;
    let expires_in = seconds.map_or(Ok(HoldPeriod::DEFAULT), |value| {
        let seconds = whole_number("expiresInSeconds", value, i64::MIN).ok();
        seconds
            .and_then(HoldPeriod::from_seconds)
            .ok_or_else(|| HttpError::not_in_range("expiresInSeconds", 1, HoldPeriod::SECONDS_MAX))
    })?;
    let reference = text.map(reference).transpose()?;
    let reserve = Reserve { user, amount, expires_in, key, reference };
    let outcome = app.operations.apply(Operation::Reserve(reserve)).await.of_user(user)?;
    let mut location = None;
    let mut response = decided(StatusCode::CREATED, outcome, |decision| match decision {
        OperationDecision::Reserved { hold, balance, held, expires_at } => {
            location = HeaderValue::from_str(&format!("/users/{user}/holds/{hold}")).ok();
            Some(NewHoldDone {
                hold: *hold,
                amount: amount.get(),
                balance: *balance,
                held: *held,
                expires_at: expires_at.to_string(),
            })
        }
        _ => None,
    })?;
    response.headers_mut().extend(location.map(|location| (header::LOCATION, location)));
    Ok(response)
}

/// Takes money of a hold; what is left of it goes back to the balance.
#[utoipa::path(
    post, path = "/users/{id}/holds/{hold}/capture",
    operation_id = "capture", tag = "Holds",
    params(parameters::User, parameters::Hold, parameters::IdempotencyKey),
    request_body = schemas::NewCapture, responses(responses::OfCapture)
)]
pub async fn capture(
    State(app): State<App>,
    path: Segments,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let (user, hold) = path_hold(path)?;
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [amount, to] = members(&body, ["amount", "to"])?;
    let amount = amount.map(|value| payment("amount", value)).transpose()?;
    let to = to.map(|value| user_id("to", whole_number("to", value, 1)?)).transpose()?;
    if to == Some(user) {
        return Err(HttpError::bad_request(CAPTURE_TO_OWNER));
    }
    let capture = Operation::Capture(Capture { user, hold, amount, to, key });
    let outcome = app.operations.apply(capture).await.of_user(user)?;
    decided(StatusCode::OK, outcome, |decision| match decision {
        OperationDecision::Captured { captured, balance, held } => {
            Some(HoldCaptured { captured: *captured, balance: *balance, held: *held })
        }
        _ => None,
    })
}

/// Gives all money of a hold back.
#[utoipa::path(
    post, path = "/users/{id}/holds/{hold}/release",
    operation_id = "release", tag = "Holds",
    params(parameters::User, parameters::Hold, parameters::IdempotencyKey),
    request_body = schemas::NewRelease, responses(responses::OfRelease)
)]
pub async fn release(
    State(app): State<App>,
    path: Segments,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let (user, hold) = path_hold(path)?;
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [] = members(&body, [])?;
    let release = Operation::Release(Release { user, hold, key });
    let outcome = app.operations.apply(release).await.of_user(user)?;
    decided(StatusCode::OK, outcome, |decision| match decision {
        OperationDecision::Released { balance, held } => {
            Some(HoldReleased { balance: *balance, held: *held })
        }
        _ => None,
    })
}
