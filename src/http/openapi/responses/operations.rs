//! The responses of transfers and holds.

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::{IntoResponses, ToSchema};

use super::by_status::{ByStatus, Responses, always};
use super::replayed;
use crate::http::error::HttpError;
use crate::http::openapi::schemas::string;
use crate::http::wire::{
    AMOUNT_REQUIRED, CAPTURE_TO_OWNER, HoldCaptured, HoldReleased, INSUFFICIENT, NewHoldDone,
    REFERENCE_RULE, SAME_USER, TRANSFER_REQUIRED, TransferDone,
};
use crate::ledger::{ChangeError, Part, Resolution};

const AMOUNT: &str = "amount must be a whole number from 1 to 9223372036854775807";

/// A transfer.
pub struct OfTransfer;

impl IntoResponses for OfTransfer {
    fn responses() -> Responses {
        let body = json!({
            "from": { "id": 1, "balance": 9_500, "version": 3 },
            "to": { "id": 2, "balance": 500, "version": 1 }
        });
        operation(StatusCode::CREATED, &body, &TransferDone::name())
            .error(HttpError::bad_request(INSUFFICIENT), "the payer's balance would go below zero")
            .error(HttpError::bad_request(TRANSFER_REQUIRED), "a member is missing or null")
            .error(HttpError::bad_request(SAME_USER), "a transfer has two sides")
            .error(HttpError::bad_request(AMOUNT), "malformed: the sentence says what must be")
            .error(HttpError::bad_request(REFERENCE_RULE), "the reference cannot be shown")
            .error(
                Part::To.error(ChangeError::BalanceOutOfRange),
                "the payee's sum does not fit into 64 bits",
            )
            .error(Part::From.error(ChangeError::UserNotFound), "nobody pays")
            .error(Part::To.error(ChangeError::UserNotFound), "nobody is paid")
            .header(StatusCode::BAD_REQUEST, "Idempotent-Replayed", replayed())
            .build()
    }
}

/// A new hold.
pub struct OfReserve;

impl IntoResponses for OfReserve {
    fn responses() -> Responses {
        let body = json!({
            "hold": 7, "amount": 500, "balance": 9_500, "held": 500,
            "expiresAt": "2026-01-31T12:00:00.123456Z"
        });
        let location = string().pattern(Some("^/users/[1-9][0-9]*/holds/[1-9][0-9]*$"));
        operation(StatusCode::CREATED, &body, &NewHoldDone::name())
            .error(HttpError::bad_request(INSUFFICIENT), "the balance would go below zero")
            .error(HttpError::bad_request(AMOUNT_REQUIRED), "the amount is missing or null")
            .error(HttpError::bad_request(AMOUNT), "malformed: the sentence says what must be")
            .error(HttpError::bad_request(REFERENCE_RULE), "the reference cannot be shown")
            .error(ChangeError::UserNotFound, "no user has this number")
            .header(StatusCode::CREATED, "Location", always("The new hold", location))
            .header(StatusCode::BAD_REQUEST, "Idempotent-Replayed", replayed())
            .build()
    }
}

/// A capture.
pub struct OfCapture;

impl IntoResponses for OfCapture {
    fn responses() -> Responses {
        let body = json!({ "captured": 300, "balance": 9_700, "held": 0 });
        resolution(&body, &HoldCaptured::name())
            .error(HttpError::bad_request(AMOUNT), "malformed: the sentence says what must be")
            .error(HttpError::bad_request(CAPTURE_TO_OWNER), "release gives the money back")
            .error(
                Part::To.error(ChangeError::BalanceOutOfRange),
                "the payee's sum does not fit into 64 bits",
            )
            .error(Part::To.error(ChangeError::UserNotFound), "nobody gets the money")
            .error(ChangeError::BeyondHold(500), "the hold has less")
            .build()
    }
}

/// A release.
pub struct OfRelease;

impl IntoResponses for OfRelease {
    fn responses() -> Responses {
        let body = json!({ "balance": 10_000, "held": 0 });
        let sentence = "Unknown member \"amount\"; the request body may have no members";
        resolution(&body, &HoldReleased::name())
            .error(HttpError::bad_request(sentence), "malformed: the sentence says what must be")
            .build()
    }
}

fn resolution(body: &Value, schema: &str) -> ByStatus {
    let gone = "the hold was resolved before, or its time is over";
    operation(StatusCode::OK, body, schema)
        .error(ChangeError::UserNotFound, "no user has this number")
        .error(ChangeError::HoldNotFound, "the user has no such hold")
        .error(ChangeError::HoldResolved(Resolution::Captured), gone)
        .error(ChangeError::HoldResolved(Resolution::Released), gone)
        .error(ChangeError::HoldResolved(Resolution::Expired), gone)
}

fn operation(status: StatusCode, body: &Value, schema: &str) -> ByStatus {
    ByStatus::default()
        .success(status, "Applied and durable", body, schema)
        .error(ChangeError::KeyInProgress, "try again, with the same key")
        .error(ChangeError::KeyReused, "nothing was changed")
        .body()
        .database("not applied, try again", "retry with the same key to learn the outcome")
        .header(status, "Idempotent-Replayed", replayed())
}
