//! The one place that maps an error to a status and a body.
//!
//! Every error body is exactly `{"error":"<sentence>"}`, so that equal responses are equal bytes.
//! The response to an error of the service reveals nothing internal. Its cause travels in the response's
//! extensions (`Reasons`) to the one place that logs it, which knows the request
//! ([`observe`](super::observe)).

use std::any::Any;
use std::borrow::Cow;
use std::fmt::{self, Write as _};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use thiserror::Error;

use super::response::json;
use super::wire::{BULK_CHANGES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, LINE_BYTES_MAX};
use crate::approach::registry;
use crate::ledger::{Cause, ChangeError, UserId};

/// Every response to a request other than a success or `Insufficient funds`.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The request is malformed; the sentence names what is wrong and what would be right.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// The request's head is longer than [`HEAD_BYTES_MAX`] or has too many headers.
    #[error(
        "The request head must not be longer than {} bytes, nor have more than {} headers",
        HEAD_BYTES_MAX,
        HEADERS_MAX
    )]
    HeadTooLarge,
    /// The request's head cannot be parsed.
    #[error("The request head is not valid HTTP/1.0 or HTTP/1.1")]
    MalformedHead,
    /// Tokens are configured, and the request has none or a wrong one.
    #[error("Unauthorized")]
    Unauthorized,
    /// The token's scopes do not include the route's.
    #[error("Forbidden")]
    Forbidden,
    /// A request in plain HTTP came to an address that speaks TLS.
    #[error("This address speaks HTTPS only")]
    NotTls,
    /// No such route.
    #[error("Not found")]
    NotFound,
    /// The route exists, but the approach does not.
    #[error("Unknown approach; there are: {}", registry::names().collect::<Vec<_>>().join(", "))]
    UnknownApproach,
    /// The route exists, but not with this method. The header `Allow` lists its methods.
    #[error("Method not allowed")]
    MethodNotAllowed,
    /// The body did not arrive in time.
    #[error("The request body did not arrive in time")]
    BodyTimeout,
    /// The client has ended the body before its end, or broken its form.
    #[error("The request body could not be read")]
    BodyUnreadable,
    /// The body is longer than this many bytes.
    #[error("The request body must not be longer than {0} bytes")]
    BodyTooLarge(usize),
    /// A bulk has more than [`BULK_CHANGES_MAX`] changes.
    #[error("The request body must not have more than {} changes", BULK_CHANGES_MAX)]
    TooManyChanges,
    /// A line of a stream is longer than `LINE_BYTES_MAX`.
    #[error("A line must not be longer than {} bytes", LINE_BYTES_MAX)]
    LineTooLong,
    /// A stream is ended because the service stops.
    #[error("The service is stopping: what follows was not applied")]
    Stopping,
    /// The request's content type is neither JSON nor JSON lines.
    #[error("Content-Type must be application/json or application/x-ndjson")]
    NotJsonOrLines,
    /// The request's content type is not JSON.
    #[error("Content-Type must be application/json")]
    NotJson,
    /// The change was well-formed, but yielded no decision.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The service is about to stop.
    #[error("The service is stopping")]
    Leaving,
    /// The same, and it is known whose change it was.
    #[error("{1}")]
    OfUser(UserId, ChangeError),
    /// The database does not respond.
    #[error("The database is not ready")]
    NotReady,
}

impl HttpError {
    /// A malformed request.
    pub fn bad_request(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest(sentence.into())
    }

    /// A number that is missing, of another type, or out of range.
    pub(super) fn not_in_range(name: &str, least: i64, most: i64) -> Self {
        Self::bad_request(format!("{name} must be a whole number from {least} to {most}"))
    }

    /// The status of the response.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::MalformedHead | Self::BodyUnreadable | Self::NotTls => {
                StatusCode::BAD_REQUEST
            }
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound | Self::UnknownApproach => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) | Self::TooManyChanges | Self::LineTooLong => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::NotJson | Self::NotJsonOrLines => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotReady | Self::Stopping | Self::Leaving => StatusCode::SERVICE_UNAVAILABLE,
            Self::Change(change) | Self::OfUser(_, change) => status_of(change),
        }
    }

    /// Why the service is at fault; `None` where the request is.
    fn reason(&self) -> Option<Reason> {
        let (user, cause) = match self {
            Self::Change(error) => (None, cause_of(error)?),
            Self::OfUser(user, error) => (Some(*user), cause_of(error)?),
            Self::NotReady | Self::Leaving => (None, self.to_string().into()),
            _ => return None,
        };
        Some(Reason { status: self.status(), user, items: None, cause: Some(cause) })
    }
}

fn cause_of(error: &ChangeError) -> Option<Cause> {
    match error {
        ChangeError::NotApplied(cause)
        | ChangeError::OutcomeUnknown(cause)
        | ChangeError::Internal(cause) => Some(cause.clone()),
        ChangeError::Busy(cause) => Some((*cause).into()),
        ChangeError::Part(_, error) => cause_of(error),
        _ => None,
    }
}

/// Names the user of a request that may fail.
pub(super) trait OfUser<T> {
    /// The same result. Its error knows the user, for the log.
    fn of_user(self, user: UserId) -> Result<T, HttpError>;
}

impl<T> OfUser<T> for Result<T, ChangeError> {
    fn of_user(self, user: UserId) -> Result<T, HttpError> {
        self.map_err(|error| HttpError::OfUser(user, error))
    }
}

/// Why a request failed through no fault of its own, in the extensions of its response: for the log,
/// never for the client. More than one where many changes were asked for.
#[derive(Clone, Default)]
pub(super) struct Reasons(pub(super) Vec<Reason>);

/// Why a request, or some of its items, failed.
#[derive(Clone)]
pub(super) struct Reason {
    /// The status of the response, or of the items.
    pub(super) status: StatusCode,
    pub(super) user: Option<UserId>,
    /// How many items of a bulk or a stream; `None` where the whole request failed.
    pub(super) items: Option<u64>,
    cause: Option<Cause>,
}

impl Reason {
    /// For a response of which only the status is known.
    pub(super) fn without_cause(status: StatusCode) -> Self {
        Self { status, user: None, items: None, cause: None }
    }

    /// The text of the cause.
    pub(super) fn cause(&self) -> String {
        self.cause.as_ref().map_or_else(|| "unknown".to_owned(), Cause::to_string)
    }
}

/// The status of an error of the service.
fn status_of(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::BalanceOutOfRange => StatusCode::BAD_REQUEST,
        ChangeError::UserNotFound | ChangeError::HoldNotFound => StatusCode::NOT_FOUND,
        ChangeError::KeyInProgress | ChangeError::HoldResolved(_) => StatusCode::CONFLICT,
        ChangeError::KeyReused | ChangeError::BeyondHold(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ChangeError::Busy(_) | ChangeError::NotApplied(_) => StatusCode::SERVICE_UNAVAILABLE,
        ChangeError::OutcomeUnknown(_) => StatusCode::GATEWAY_TIMEOUT,
        ChangeError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ChangeError::Part(_, error) => status_of(error),
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response<Body> {
        let status = self.status();
        let mut response = json(status, error_body(&self.to_string()));
        if let Some(reason) = self.reason() {
            response.extensions_mut().insert(Reasons(vec![reason]));
        }
        let (name, value) = match status {
            StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "1"),
            StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Bearer"),
            // The rest of the body has yet to arrive, so the connection cannot be reused.
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
                (header::CONNECTION, "close")
            }
            _ => return response,
        };
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}

/// Appends an error as one of many results.
pub(super) fn write_item(out: &mut String, error: &HttpError) -> fmt::Result {
    let sentence = serde_json::Value::String(error.to_string());
    write!(out, "{{\"status\":{},\"error\":{sentence}}}", error.status().as_u16())
}

/// The errors of the service among many results: the first of each status, and how many.
#[derive(Default)]
pub(super) struct Failures(Vec<Reason>);

impl Failures {
    pub(super) fn add(&mut self, error: &HttpError) {
        let Some(reason) = error.reason() else { return };
        self.merge(Self(vec![Reason { items: Some(1), ..reason }]));
    }

    pub(super) fn merge(&mut self, others: Self) {
        for other in others.0 {
            match self.0.iter_mut().find(|known| known.status == other.status) {
                Some(known) => {
                    known.items = known.items.zip(other.items).map(|(one, more)| one + more);
                }
                None => self.0.push(other),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For the log.
    pub(super) fn into_reasons(self) -> Reasons {
        Reasons(self.0)
    }
}

/// The body of an error.
pub(super) fn error_body(sentence: &str) -> String {
    serde_json::json!({ "error": sentence }).to_string()
}

/// The response if a handler panicked.
pub(super) fn response_to_panic(panic: &(dyn Any + Send)) -> Response<Body> {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    HttpError::Change(ChangeError::Internal(format!("a handler panicked: {text}").into()))
        .into_response()
}
