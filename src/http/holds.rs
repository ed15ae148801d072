//! `GET /users/{id}/holds` and `GET /users/{id}/holds/{hold}`.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, Uri};

use super::app::{App, Segment, path_user, positive_number};
use super::error::{HttpError, OfUser};
use super::openapi::{parameters, responses};
use super::query::{self, Page};
use super::response::{json, to_json};
use super::wire::{HOLD_STATES, Hold, Holds};
use crate::ledger::{HoldNumber, HoldState, UserId};
use crate::store::holds;

impl From<holds::Hold> for Hold {
    fn from(hold: holds::Hold) -> Self {
        Self {
            hold: hold.hold,
            amount: hold.amount,
            captured: hold.captured,
            state: hold.state,
            reference: hold.reference,
            created_at: hold.created_at,
            expires_at: hold.expires_at,
            resolved_at: hold.resolved_at,
        }
    }
}

/// Shows a hold.
#[utoipa::path(
    get,
    path = "/users/{id}/holds/{hold}",
    operation_id = "showHold",
    tag = "Holds",
    params(parameters::User, parameters::Hold),
    responses(responses::OneHold)
)]
pub async fn show(State(app): State<App>, of: Segments) -> Result<Response<Body>, HttpError> {
    let (user, hold) = path_hold(of)?;
    let hold = Hold::from(app.store.hold(user, hold).await.of_user(user)?);
    Ok(json(StatusCode::OK, to_json(&hold)?))
}

/// Shows a page of a user's holds.
#[utoipa::path(
    get,
    path = "/users/{id}/holds",
    operation_id = "listHolds",
    tag = "Holds",
    params(parameters::User, parameters::HoldsPage),
    responses(responses::Holds)
)]
pub async fn list(
    State(app): State<App>,
    id: Segment,
    uri: Uri,
) -> Result<Response<Body>, HttpError> {
    let user = path_user(id)?;
    let [state, limit, before] = query::parameters(uri.query(), ["state", "limit", "before"])?;
    let Page { limit, before } = Page::of(&limit, &before)?;
    let state = state.map(|name| state_of(&name)).transpose()?;
    let page =
        app.store.holds(user, holds::Selection { state, before, limit }).await.of_user(user)?;
    let body = Holds {
        balance: page.user.balance,
        held: page.user.held,
        version: page.user.version,
        holds: page.holds.into_iter().map(Hold::from).collect(),
        next: page.next,
    };
    Ok(json(StatusCode::OK, to_json(&body)?))
}

/// The user and the hold of a path such as `/users/1/holds/7`, which may not be UTF-8.
pub(super) type Segments = Result<Path<(String, String)>, PathRejection>;

/// The user and the hold of a path.
pub(super) fn path_hold(of: Segments) -> Result<(UserId, HoldNumber), HttpError> {
    let (id, hold) = of.map(|Path(texts)| texts).unwrap_or_default();
    let user = path_user(Ok(Path(id)))?;
    Ok((user, positive_number("The hold", &hold, i64::MAX)?))
}

fn state_of(name: &str) -> Result<HoldState, HttpError> {
    let sentence = || format!("state must be one of {}", HOLD_STATES.join(", "));
    HoldState::from_name(name).ok_or_else(|| HttpError::bad_request(sentence()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_selected() {
        for name in HOLD_STATES {
            assert_eq!(state_of(name).unwrap().to_string(), name);
        }
        for name in ["", "Open", "closed"] {
            assert!(state_of(name).is_err(), "{name}");
        }
    }
}
