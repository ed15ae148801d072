//! Builds responses from text and bytes that are complete.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::error::{HttpError, error_body};
use super::key;
use super::wire::{INSUFFICIENT, JSON};
use crate::ledger::{ChangeError, OperationDecision, Outcome, Part};

/// A response of this content type.
pub fn of_type(kind: &'static str, content: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(content.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A JSON response; `text` must be JSON already.
pub fn json(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = of_type(JSON, text);
    *response.status_mut() = status;
    response
}

/// The text of a body.
pub fn to_json(body: &impl Serialize) -> Result<String, HttpError> {
    serde_json::to_string(body)
        .map_err(|error| HttpError::Change(ChangeError::Internal(error.into())))
}

/// The response to a decided operation: a success with the body that `body` makes, or the refusal.
pub fn decided<B: Serialize>(
    status: StatusCode,
    outcome: Outcome<OperationDecision>,
    body: impl FnOnce(&OperationDecision) -> Result<B, HttpError>,
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
        accepted => json(status, to_json(&body(accepted)?)?),
    };
    if replayed {
        response.headers_mut().extend([key::REPLAYED]);
    }
    Ok(response)
}

/// The error if a decision belongs to another operation.
pub fn unexpected(decision: &OperationDecision) -> HttpError {
    let cause = format!("the decision of another operation: {decision:?}");
    HttpError::Change(ChangeError::Internal(cause.into()))
}
