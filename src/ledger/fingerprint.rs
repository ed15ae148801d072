//! Fingerprints of operations.

use super::Reference;

/// What a key was used for: the operation with all its members, as text. Two requests with the same
/// key and the same fingerprint are one; with another fingerprint the second one is rejected.
///
/// The text is stored, so its form must never change. It begins with the kind of the operation, and
/// whatever the client chose freely comes last, so two different operations never share a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of an operation without the client's own text, and of that text.
    pub(super) fn new(mut operation: String, reference: Option<&Reference>) -> Self {
        if let Some(reference) = reference {
            operation.push(' ');
            operation.push_str(reference.as_str());
        }
        Self(operation)
    }

    /// As it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text to store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
