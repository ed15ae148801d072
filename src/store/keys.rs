//! Idempotency keys: the outcome of an operation is stored with its key and replayed.
//!
//! The key commits together with everything that the operation writes. The primary key of
//! `idempotency_keys` alone makes this exact: of two operations with the same key only one can
//! commit. The other fails with `unique_violation`, is rolled back in full, and its next attempt finds
//! the stored outcome ([`Failure::Race`](super::error::Failure::Race)).
//!
//! An insert of a key that is part of a larger statement returns a column that nobody reads. Without
//! one, a cluster that shards the tables copies the rows to their shard and relays a used key as an
//! internal error (XX000).
//!
//! A statement that changes a balance locks the user's row before it writes a key, so two of them
//! never wait for each other in a circle. A refusal, or a read, writes only its key.
//!
//! # What is stored
//! `fingerprint` is the operation as text ([`Fingerprint`]). `answer` is what the operation answered,
//! as numbers whose meaning depends on its kind; NULL is a refusal for insufficient funds. For a
//! change it is the new balance.

use crate::ledger::{Balance, ChangeError, Decision, Fingerprint, Outcome};

/// What a key was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// What was decided.
    pub decision: Decision,
}

impl Stored {
    /// From the columns `fingerprint` and `answer`.
    pub fn from_columns(fingerprint: String, answer: Option<Vec<i64>>) -> Self {
        let balance = answer.and_then(|numbers| numbers.first().copied());
        let decision = balance.map_or(Decision::Refused, Decision::Accepted);
        Self { fingerprint: Fingerprint::from_stored(fingerprint), decision }
    }

    /// The same outcome again, for a request with this fingerprint.
    ///
    /// # Errors
    /// [`ChangeError::KeyReused`] where the request asks for something else.
    pub fn replay(&self, fingerprint: &Fingerprint) -> Result<Outcome, ChangeError> {
        if self.fingerprint != *fingerprint {
            return Err(ChangeError::KeyReused);
        }
        Ok(Outcome::replayed(self.decision))
    }
}

/// The column `answer` for a decision.
pub fn answer(decision: Decision) -> Option<[Balance; 1]> {
    match decision {
        Decision::Accepted(balance) => Some([balance]),
        Decision::Refused => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Amount, Change, UserId};

    #[test]
    fn a_stored_outcome_is_replayed_to_the_same_request_only() {
        let change = |amount| Change {
            user: UserId::FIRST,
            amount: Amount::new(amount).unwrap(),
            key: None,
            reference: None,
        };
        let asked = change(-2).fingerprint();
        for decision in [Decision::Accepted(0), Decision::Refused] {
            let numbers = answer(decision).map(Vec::from);
            let stored = Stored::from_columns(asked.as_str().to_owned(), numbers);
            assert_eq!(stored.replay(&asked).unwrap(), Outcome::replayed(decision));
            let other = stored.replay(&change(-3).fingerprint());
            assert!(matches!(other, Err(ChangeError::KeyReused)));
        }
    }
}
