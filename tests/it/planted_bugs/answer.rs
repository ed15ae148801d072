//! What the clients are told.

use serde_json::{Value, json};

/// A status with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    /// The members of `body` are sent in their order.
    #[expect(clippy::needless_pass_by_value, reason = "callers make it with json!")]
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, body: body.to_string() }
    }

    pub(super) fn error(status: u16, sentence: &str) -> Self {
        Self::new(status, json!({ "error": sentence }))
    }

    pub(super) fn balance(balance: i64) -> Self {
        Self::new(200, json!({ "balance": balance }))
    }

    pub(super) fn no_user() -> Self {
        Self::error(404, "User not found")
    }

    /// Insufficient funds; of a bulk, with the position of the change.
    pub(super) fn refusal(position: Option<usize>) -> Self {
        match position {
            None => Self::error(400, "Insufficient funds"),
            Some(at) => Self::error(400, &format!("changes[{at}]: Insufficient funds")),
        }
    }

    pub(super) fn not_applied() -> Self {
        Self::error(503, "Not applied, try again")
    }

    pub(super) fn unknown() -> Self {
        Self::error(504, "Outcome unknown: the change may or may not have been applied")
    }

    pub(super) fn is_success(&self) -> bool {
        matches!(self.status, 200 | 201)
    }

    /// Successes and refusals are kept with the key; nothing else uses a key up.
    pub(super) fn is_kept(&self) -> bool {
        self.is_success() || self.body.ends_with("Insufficient funds\"}")
    }

    /// As one of the results of a bulk or of a stream.
    pub(super) fn as_item(&self) -> String {
        match self.body.strip_prefix('{') {
            Some(members) if !self.is_success() => {
                format!("{{\"status\":{},{members}", self.status)
            }
            _ => self.body.clone(),
        }
    }
}
