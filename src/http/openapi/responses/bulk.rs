//! The responses of bulks.

use axum::http::StatusCode;
use serde_json::json;
use utoipa::openapi::Content;
use utoipa::openapi::content::ContentBuilder;
use utoipa::{IntoResponses, ToSchema};

use super::by_status::{ByStatus, Responses};
use super::replayed;
use crate::http::error::HttpError;
use crate::http::openapi::schemas::{Results, string};
use crate::http::wire::{
    BULK_BYTES_MAX, CHANGES_RULE, INSUFFICIENT, KEY_OF_ALL, KEYS_OF_CHANGES, MODE_RULE, NDJSON,
};
use crate::ledger::{ChangeError, Part};

/// A result a line.
fn lines() -> Content {
    let line = format!("{{\"balance\":9998}}\n{{\"status\":400,\"error\":\"{INSUFFICIENT}\"}}\n");
    ContentBuilder::new().schema(Some(string())).example(Some(json!(line))).build()
}

/// Many changes.
pub struct OfBulk;

impl IntoResponses for OfBulk {
    fn responses() -> Responses {
        let results = json!({ "results": [
            { "balance": 9_998 }, { "status": 400, "error": INSUFFICIENT }
        ] });
        let part = Part::Change(17);
        let of_part = |sentence: &str| HttpError::bad_request(format!("{part}: {sentence}"));
        let all = "mode all: nothing was changed";
        ByStatus::default()
            .success(StatusCode::OK, "Decided and durable", &results, Results::name())
            .content("Decided and durable", NDJSON, lines())
            .error(HttpError::bad_request(CHANGES_RULE), "the sentence says what must be")
            .error(HttpError::bad_request(MODE_RULE), "there is no other mode")
            .error(HttpError::bad_request(KEYS_OF_CHANGES), "one key cannot be that of each")
            .error(of_part(INSUFFICIENT), all)
            .error(of_part(KEY_OF_ALL), all)
            .error(part.error(ChangeError::BalanceOutOfRange), all)
            .error(part.error(ChangeError::UserNotFound), all)
            .error(ChangeError::KeyInProgress, "mode all: try again, with the same key")
            .error(ChangeError::KeyReused, all)
            .body_up_to(BULK_BYTES_MAX)
            .error(HttpError::TooManyChanges, "send them as a stream")
            .error(HttpError::NotJsonOrLines, "a charset may follow")
            .database("nothing was applied, try again", "retry with the same keys")
            .header(StatusCode::OK, "Idempotent-Replayed", replayed())
            .header(StatusCode::BAD_REQUEST, "Idempotent-Replayed", replayed())
            .build()
    }
}
