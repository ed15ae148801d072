//! `PATCH /approach/{approach}/balance` and `PATCH /users/{id}/balance`: one change of one balance.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use futures_util::FutureExt;
use futures_util::future::ready;

use super::answer::json;
use super::body::{JsonBody, amount, members, user_id, whole_number};
use super::error::{HttpError, error_body};
use super::openapi::{answers, parameters, schemas};
use super::{App, Segment, key, path_user};
use crate::balance::{Amount, Change, Decision, Outcome, UserId};

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
    through(app, name.map(|Path(name)| name).unwrap_or_default(), request).await
}

/// The same with the name at hand.
pub(super) fn through(
    app: App,
    name: impl AsRef<str> + Send,
    request: Request,
) -> impl Future<Output = Result<Response<Body>, HttpError>> + Send {
    decide(app, name, request, |body| {
        let [Some(user), Some(by)] = members(body, ["userId", "amount"])? else {
            return Err(HttpError::bad_request(USER_REQUIRED));
        };
        let user = user_id("userId", whole_number("userId", user, 1)?)?;
        Ok((user, amount(by)?))
    })
}

/// Applies the change of the body to the user of the path, through the default approach.
///
/// No `async fn`, whose future would hold the request for as long as it is answered.
#[utoipa::path(
    patch, path = "/users/{id}/balance",
    operation_id = "changeBalance", tag = "Changes",
    params(parameters::User, parameters::IdempotencyKey),
    request_body = schemas::ChangeOfBalance, responses(answers::ChangeThroughDefault)
)]
pub fn by_user(
    State(app): State<App>,
    id: Segment,
    request: Request,
) -> impl Future<Output = Result<Response<Body>, HttpError>> + Send {
    let user = match path_user(id) {
        Ok(user) => user,
        Err(error) => return ready(Err(error)).left_future(),
    };
    let name = app.approaches.default_name();
    let deciding = decide(app, name, request, move |body| {
        let [Some(by)] = members(body, ["amount"])? else {
            return Err(HttpError::bad_request(AMOUNT_REQUIRED));
        };
        Ok((user, amount(by)?))
    });
    deciding.right_future()
}

/// Applies the change that `parse` finds in the body, through the approach of that name.
///
/// What is to be had from the head is taken from it before the future begins: as many of these lie
/// in memory as changes wait, and they are fetched from there again when they are answered.
fn decide(
    app: App,
    name: impl AsRef<str> + Send,
    request: Request,
    parse: impl FnOnce(&[u8]) -> Result<(UserId, Amount), HttpError> + Send,
) -> impl Future<Output = Result<Response<Body>, HttpError>> + Send {
    let key = key::read(request.headers());
    let body = JsonBody::of(request);
    async move {
        let approach = app.approaches.get(name.as_ref()).ok_or(HttpError::UnknownApproach)?;
        let key = key?;
        let (user, amount) = parse(&body?.read(app.body_limit).await?)?;
        Ok(answer(approach.apply(Change { user, amount, key }).await?))
    }
}

fn answer(outcome: Outcome) -> Response<Body> {
    let mut response = match outcome.decision {
        Decision::Accepted(balance) => json(StatusCode::OK, format!("{{\"balance\":{balance}}}")),
        Decision::Refused => json(StatusCode::BAD_REQUEST, error_body(INSUFFICIENT)),
    };
    if outcome.replayed {
        let (name, value) = key::REPLAYED;
        response.headers_mut().insert(name, value);
    }
    response
}
