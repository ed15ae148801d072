//! `PATCH /approach/{approach}/balance`: one change of one balance.

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{Response, StatusCode};
use hyper::body::Bytes;

use super::State;
use super::body::{amount, members, read_json, whole_number};
use super::error::{HttpError, json};
use crate::balance::{Balance, Change, UserId};

/// Applies the change of the body through the approach of the path.
pub async fn by_approach(
    axum::extract::State(state): axum::extract::State<State>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let approach = state.0.approaches.get(&name).ok_or(HttpError::UnknownApproach)?;
    let body = read_json(request, state.0.body_limit).await?;
    let change = parse(&body)?;
    let balance = approach.apply(change).await?;
    Ok(answer(balance))
}

fn parse(body: &Bytes) -> Result<Change, HttpError> {
    let [Some(user), Some(amount_text)] = members(body, ["userId", "amount"])? else {
        return Err(HttpError::bad_request("userId and amount are required"));
    };
    let user = UserId::new(whole_number("userId", user, 1)?)
        .ok_or_else(|| HttpError::bad_request("userId is out of range"))?;
    Ok(Change { user, amount: amount(amount_text)? })
}

fn answer(balance: Balance) -> Response<Body> {
    json(StatusCode::OK, format!("{{\"balance\":{balance}}}"))
}
