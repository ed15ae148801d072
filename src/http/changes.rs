//! `PATCH /approach/{approach}/balance` and `PATCH /users/{id}/balance`: one change of one balance.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};

use super::body::{amount, members, read_json, user_id, whole_number};
use super::error::{HttpError, error_body, json};
use super::openapi::{answers, parameters, schemas};
use super::{App, Segment, key, path_user};
use crate::approach::Chosen;
use crate::balance::{Change, Decision, Outcome, UserId};

/// The sentences of this file.
pub(super) const INSUFFICIENT: &str = "Insufficient funds";
pub(super) const USER_REQUIRED: &str = "userId and amount are required";
pub(super) const AMOUNT_REQUIRED: &str = "amount is required";

/// Applies the change of the body through the approach of the path.
#[utoipa::path(
    patch, path = "/approach/{approach}/balance",
    operation_id = "changeThroughApproach", tag = "Changes",
    params(parameters::ApproachName, parameters::IdempotencyKey),
    request_body = schemas::ChangeOfUser, responses(answers::ChangeThroughApproach)
)]
pub async fn by_approach(
    State(app): State<App>,
    name: Segment,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    through(app, &name.map(|Path(name)| name).unwrap_or_default(), request).await
}

/// The same with the name at hand.
pub(super) async fn through(
    app: App,
    name: &str,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let approach = app.approaches.get(name).ok_or(HttpError::UnknownApproach)?;
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [Some(user), Some(by)] = members(&body, ["userId", "amount"])? else {
        return Err(HttpError::bad_request(USER_REQUIRED));
    };
    let user = user_id("userId", whole_number("userId", user, 1)?)?;
    apply(approach, Change { user, amount: amount(by)?, key }).await
}

/// Applies the change of the body to the user of the path, through the default approach.
#[utoipa::path(
    patch, path = "/users/{id}/balance",
    operation_id = "changeBalance", tag = "Changes",
    params(parameters::User, parameters::IdempotencyKey),
    request_body = schemas::ChangeOfBalance, responses(answers::ChangeThroughDefault)
)]
pub async fn by_user(
    State(app): State<App>,
    id: Segment,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let user: UserId = path_user(id)?;
    let key = key::read(request.headers())?;
    let body = read_json(request, app.body_limit).await?;
    let [Some(by)] = members(&body, ["amount"])? else {
        return Err(HttpError::bad_request(AMOUNT_REQUIRED));
    };
    let approach = app.approaches.default();
    apply(approach, Change { user, amount: amount(by)?, key }).await
}

async fn apply(approach: Chosen<'_>, change: Change) -> Result<Response<Body>, HttpError> {
    let Outcome { decision, replayed } = approach.apply(change).await?;
    let mut response = match decision {
        Decision::Accepted(balance) => {
            json(StatusCode::OK, ["{\"balance\":", &balance.to_string(), "}"].concat())
        }
        Decision::Refused => json(StatusCode::BAD_REQUEST, error_body(INSUFFICIENT)),
    };
    if replayed {
        let (name, value) = key::REPLAYED;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}
