//! `GET /users/{id}/balance`: a balance at a moment, or right after an entry of the history.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};

use super::app::{App, Segment, number_in, path_user};
use super::error::{HttpError, OfUser};
use super::openapi::{parameters, responses};
use super::query;
use super::response::{json, to_json};
use super::wire::{AT_OR_VERSION, AT_RULE, BalanceThen};
use crate::ledger::Timestamp;
use crate::store::balance_at::{BalanceAt, Lookup};

impl From<BalanceAt> for BalanceThen {
    fn from(found: BalanceAt) -> Self {
        let BalanceAt { balance, held, version, at } = found;
        Self { balance, held, version, at }
    }
}

/// Shows a user's balance at a moment, or right after an entry of its history.
///
/// The answer is final: no later change is entered at that moment or before.
#[utoipa::path(
    get,
    path = "/users/{id}/balance",
    operation_id = "showBalanceAt",
    tag = "Users",
    params(parameters::User, parameters::Moment),
    responses(responses::BalanceAtMoment)
)]
pub async fn show(
    State(app): State<App>,
    id: Segment,
    uri: Uri,
) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let (name, lookup) = match query::parameters(uri.query(), ["at", "version"])? {
        [Some(at), None] => {
            let moment = Timestamp::from_rfc3339(&at);
            let moment = moment.ok_or_else(|| HttpError::bad_request(AT_RULE))?;
            (
                "at must not be later than now",
                app.store.balance_at(user, moment).await.of_user(user)?,
            )
        }
        [None, Some(version)] => {
            let version = number_in("version", &version, 0, i64::MAX)?;
            let name = "version must not be more than the user's";
            (name, app.store.balance_after(user, version).await.of_user(user)?)
        }
        _ => return Err(HttpError::bad_request(AT_OR_VERSION)),
    };
    match lookup {
        Lookup::Found(found) => Ok(json(StatusCode::OK, to_json(&BalanceThen::from(found))?)),
        Lookup::Beyond(latest) => Err(HttpError::bad_request(format!("{name}, which is {latest}"))),
    }
}
