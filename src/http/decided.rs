//! The responses to decided operations.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::Serialize;

use super::error::{HttpError, error_body};
use super::key;
use super::response::{json, to_json};
use super::wire::INSUFFICIENT;
use crate::ledger::{ChangeError, OperationDecision, Outcome, Part};

/// The response to a decided operation: a success with the body that `body` makes, or the refusal. `None`
/// is for the decision of another operation, which never comes.
pub fn decided<B: Serialize>(
    status: StatusCode,
    outcome: Outcome<OperationDecision>,
    body: impl FnOnce(&OperationDecision) -> Option<B>,
) -> Result<Response<Body>, HttpError> {
    let Outcome { decision, replayed } = outcome;
    let mut response = match &decision {
        OperationDecision::Refused { at } => {
            let sentence = match at {
                None => INSUFFICIENT.to_owned(),
                Some(position) => format!("{}: {INSUFFICIENT}", Part::Change(*position)),
            };
            json(StatusCode::BAD_REQUEST, error_body(&sentence))
        }
        accepted => {
            let unexpected = || format!("the decision of another operation: {accepted:?}").into();
            let body = body(accepted).ok_or_else(|| ChangeError::Internal(unexpected()))?;
            json(status, to_json(&body)?)
        }
    };
    if replayed {
        response.headers_mut().extend([key::REPLAYED]);
    }
    Ok(response)
}
