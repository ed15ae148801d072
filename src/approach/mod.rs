//! The approaches: ways to change one balance, side by side behind one contract.

/// The names of all approaches, in the order in which they are listed everywhere.
pub fn names() -> impl Iterator<Item = &'static str> {
    ["self", "transaction-pessimistic-locking"].into_iter()
}
