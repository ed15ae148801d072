//! `PATCH /approach/{approach}/balance` and `PATCH /users/{id}/balance`: one change of one balance.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use futures_util::FutureExt;
use futures_util::future::ready;

use super::app::{App, Segment, path_user, text};
use super::body::{JsonBody, amount, members, reference, user_id, whole_number};
use super::error::{HttpError, OfUser, error_body};
use super::key;
use super::openapi::{parameters, responses, schemas};
use super::response::json;
use super::wire::{AMOUNT_REQUIRED, INSUFFICIENT, USER_REQUIRED};
use crate::ledger::{Amount, Change, Decision, Outcome, Reference, UserId};

/// Applies the change of the body through the approach of the path.
#[utoipa::path(
    patch, path = "/approach/{approach}/balance",
    operation_id = "changeThroughApproach", tag = "Changes",
    params(parameters::ApproachName, parameters::IdempotencyKey),
    request_body = schemas::ChangeOfUser, responses(responses::ChangeThroughApproach)
)]
pub async fn by_approach(
    State(app): State<App>,
    name: Segment,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    through(app, text(name), request).await
}

/// Applies the change of the body through the approach of that name.
pub(super) fn through(
    app: App,
    name: impl AsRef<str> + Send,
    request: Request,
) -> impl Future<Output = Result<Response<Body>, HttpError>> + Send {
    apply(app, name, request, |body| {
        let [user, by, text] = members(body, ["userId", "amount", "reference"])?;
        let (Some(user), Some(by)) = (user, by) else {
            return Err(HttpError::bad_request(USER_REQUIRED));
        };
        let user = user_id("userId", whole_number("userId", user, 1)?)?;
        Ok((user, amount(by)?, text.map(reference).transpose()?))
    })
}

/// Applies the change of the body to the user of the path, through the default approach.
#[utoipa::path(
    patch, path = "/users/{id}/balance",
    operation_id = "changeBalance", tag = "Changes",
    params(parameters::User, parameters::IdempotencyKey),
    request_body = schemas::ChangeOfBalance, responses(responses::ChangeThroughDefault)
)]
// Not an `async fn`: its future would hold the request until the response is ready.
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
    let applying = apply(app, name, request, move |body| {
        let [Some(by), text] = members(body, ["amount", "reference"])? else {
            return Err(HttpError::bad_request(AMOUNT_REQUIRED));
        };
        Ok((user, amount(by)?, text.map(reference).transpose()?))
    });
    applying.right_future()
}

/// What a body asks for.
type Parsed = (UserId, Amount, Option<Reference>);

/// Applies the change that `parse` finds in the body, through the approach of that name.
///
/// The head is read before the future begins, so that the future does not hold it. One such future
/// stays in memory for each waiting change, and is loaded into the cache again for its response.
fn apply(
    app: App,
    name: impl AsRef<str> + Send,
    request: Request,
    parse: impl FnOnce(&[u8]) -> Result<Parsed, HttpError> + Send,
) -> impl Future<Output = Result<Response<Body>, HttpError>> + Send {
    let key = key::read(request.headers());
    let body = JsonBody::of(request);
    async move {
        let approach = app.approaches.get(name.as_ref()).ok_or(HttpError::UnknownApproach)?;
        let key = key?;
        let (user, amount, reference) = parse(&body?.read(app.body_limit).await?)?;
        let change = Change { user, amount, key, reference };
        Ok(response(approach.apply(change).await.of_user(user)?))
    }
}

fn response(outcome: Outcome) -> Response<Body> {
    let mut response = match outcome.decision {
        Decision::Accepted(balance) => json(StatusCode::OK, format!("{{\"balance\":{balance}}}")),
        Decision::Refused => json(StatusCode::BAD_REQUEST, error_body(INSUFFICIENT)),
    };
    if outcome.replayed {
        response.headers_mut().extend([key::REPLAYED]);
    }
    response
}
