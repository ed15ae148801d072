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
//! as numbers whose meaning depends on its kind; NULL is a refusal for insufficient funds:
//!
//! | kind | numbers |
//! |---|---|
//! | `change` | the new balance |
//! | `transfer` | balance and version of the payer, then of the payee |
//! | `hold` | the hold's number, balance, held, and when it expires in microseconds since 1970 |
//! | `capture` | what was captured, balance, held |
//! | `release` | balance, held |
//! | `all` | a balance for each change; or for a refusal `-1 - position` of the change, alone |

use crate::ledger::{
    Balance, ChangeError, Decision, Fingerprint, Operation, OperationDecision, Outcome, Position,
    Timestamp,
};

/// What a key was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// What was answered.
    answer: Option<Vec<i64>>,
}

impl Stored {
    /// From the columns `fingerprint` and `answer`.
    pub fn from_columns(fingerprint: String, answer: Option<Vec<i64>>) -> Self {
        Self { fingerprint: Fingerprint::from_stored(fingerprint), answer }
    }

    /// The same outcome again, for a change with this fingerprint.
    ///
    /// # Errors
    /// [`ChangeError::KeyReused`] where the request asks for something else.
    pub fn replay(&self, fingerprint: &Fingerprint) -> Result<Outcome, ChangeError> {
        let answer = self.answer_to(fingerprint)?;
        Ok(Outcome::replayed(match answer {
            None => Decision::Refused,
            Some([balance]) => Decision::Accepted(*balance),
            Some(_) => return Err(unreadable()),
        }))
    }

    /// The same outcome again, for an operation.
    ///
    /// # Errors
    /// [`ChangeError::KeyReused`] where the request asks for something else.
    pub fn replay_operation(
        &self,
        operation: &Operation,
    ) -> Result<Outcome<OperationDecision>, ChangeError> {
        let answer = self.answer_to(&operation.fingerprint())?;
        let decision = match answer {
            None => Some(OperationDecision::Refused { at: None }),
            Some(numbers) => decision(operation, numbers),
        };
        decision.map(Outcome::replayed).ok_or_else(unreadable)
    }

    fn answer_to(&self, fingerprint: &Fingerprint) -> Result<Option<&[i64]>, ChangeError> {
        if self.fingerprint != *fingerprint {
            return Err(ChangeError::KeyReused);
        }
        Ok(self.answer.as_deref())
    }
}

fn unreadable() -> ChangeError {
    ChangeError::Internal("the answer that is stored with the key has another form".into())
}

/// The decision that is stored with the key of an operation.
fn decision(operation: &Operation, numbers: &[i64]) -> Option<OperationDecision> {
    Some(match (operation, numbers) {
        (Operation::Transfer(_), &[from, from_version, to, to_version]) => {
            OperationDecision::Transferred {
                from: Position { balance: from, version: from_version },
                to: Position { balance: to, version: to_version },
            }
        }
        (Operation::Reserve(_), &[hold, balance, held, expires_at]) => {
            let expires_at = Timestamp::from_micros(expires_at);
            OperationDecision::Reserved { hold, balance, held, expires_at }
        }
        (Operation::Capture(_), &[captured, balance, held]) => {
            OperationDecision::Captured { captured, balance, held }
        }
        (Operation::Release(_), &[balance, held]) => OperationDecision::Released { balance, held },
        (Operation::AllOrNone(_), &[at]) if at < 0 => {
            OperationDecision::Refused { at: usize::try_from(-1 - at).ok() }
        }
        (Operation::AllOrNone(all), _) if numbers.len() == all.changes.len() => {
            OperationDecision::AllApplied(numbers.to_vec())
        }
        _ => return None,
    })
}

/// The column `answer` for a decision.
pub fn answer(decision: Decision) -> Option<[Balance; 1]> {
    match decision {
        Decision::Accepted(balance) => Some([balance]),
        Decision::Refused => None,
    }
}

/// The column `answer` for the decision on an operation.
pub fn operation_answer(decision: &OperationDecision) -> Option<Vec<i64>> {
    Some(match decision {
        OperationDecision::Transferred { from, to } => {
            vec![from.balance, from.version, to.balance, to.version]
        }
        OperationDecision::Reserved { hold, balance, held, expires_at } => {
            vec![*hold, *balance, *held, expires_at.micros()]
        }
        OperationDecision::Captured { captured, balance, held } => vec![*captured, *balance, *held],
        OperationDecision::Released { balance, held } => vec![*balance, *held],
        OperationDecision::AllApplied(balances) => balances.clone(),
        OperationDecision::Refused { at: None } => return None,
        OperationDecision::Refused { at: Some(position) } => {
            vec![-1 - i64::try_from(*position).expect("a bulk has at most a thousand changes")]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{
        AllOrNone, Amount, Capture, Change, HoldPeriod, Payment, Release, Reserve, Transfer, UserId,
    };

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

    #[test]
    fn the_answer_of_each_operation_is_replayed_as_it_was_stored() {
        use OperationDecision::{AllApplied, Captured, Refused, Released, Reserved, Transferred};
        let (user, other) = (UserId::FIRST, UserId::new(2).unwrap());
        let amount = Payment::new(5).unwrap();
        let transfer = Operation::Transfer(Transfer {
            from: user,
            to: other,
            amount,
            key: None,
            reference: None,
        });
        let reserve = Operation::Reserve(Reserve {
            user,
            amount,
            expires_in: HoldPeriod::DEFAULT,
            key: None,
            reference: None,
        });
        let capture =
            Operation::Capture(Capture { user, hold: 3, amount: None, to: None, key: None });
        let release = Operation::Release(Release { user, hold: 3, key: None });
        let amount = Amount::new(-2).unwrap();
        let change = Change { user, amount, key: None, reference: None };
        let changes = vec![change.clone(), change];
        let all = Operation::AllOrNone(AllOrNone { changes, key: None });
        let (from, to) = (Position { balance: 1, version: 2 }, Position { balance: 3, version: 4 });
        let expires_at = Timestamp::from_micros(1_798_718_399_000_001);
        let reserved = Reserved { hold: 7, balance: 1, held: 2, expires_at };
        for (operation, decision) in [
            (&transfer, Transferred { from, to }),
            (&transfer, Refused { at: None }),
            (&reserve, reserved),
            (&reserve, Refused { at: None }),
            (&capture, Captured { captured: 3, balance: 2, held: 1 }),
            (&release, Released { balance: 2, held: 0 }),
            (&all, AllApplied(vec![8, 6])),
            (&all, Refused { at: Some(0) }),
            (&all, Refused { at: Some(1) }),
        ] {
            let asked = operation.fingerprint().as_str().to_owned();
            let stored = Stored::from_columns(asked, operation_answer(&decision));
            let replayed = stored.replay_operation(operation);
            assert_eq!(replayed.unwrap(), Outcome::replayed(decision));
            let other = stored.replay_operation(if std::ptr::eq(operation, &release) {
                &capture
            } else {
                &release
            });
            assert!(matches!(other, Err(ChangeError::KeyReused)));
        }
    }

    #[test]
    fn an_answer_of_another_form_is_no_decision() {
        let release = Operation::Release(Release { user: UserId::FIRST, hold: 3, key: None });
        let asked = release.fingerprint().as_str().to_owned();
        for numbers in [vec![], vec![1], vec![1, 2, 3]] {
            let stored = Stored::from_columns(asked.clone(), Some(numbers));
            assert!(matches!(stored.replay_operation(&release), Err(ChangeError::Internal(_))));
        }
        let stored = Stored::from_columns("change 1".to_owned(), Some(Vec::new()));
        let asked = Fingerprint::from_stored("change 1".to_owned());
        assert!(matches!(stored.replay(&asked), Err(ChangeError::Internal(_))));
    }
}
