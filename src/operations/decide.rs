//! The decisions on a batch: a pure function over its [`Books`].
//!
//! The operations are decided one after the other, each on the result of the ones before it. So a chain
//! within a batch works in order: what one user is paid, that user can spend. Since all rows are locked,
//! the result is the same as if each operation had been a transaction of its own, in this order.

use std::collections::BTreeSet;

use super::books::{Books, Draft, Ledger, Stop};
use super::{bulk, hold, transfer};
use crate::ledger::{ChangeError, Operation, OperationDecision, Outcome, Timestamp, UserId};
use crate::store::keys;
use crate::store::posting::{KeyRow, Posting};

/// The decision on one operation of a batch.
#[derive(Debug)]
pub(super) enum Decided {
    /// Its answer, once the batch is committed.
    Done(Result<Outcome<OperationDecision>, ChangeError>),
    /// Nothing was decided: expired holds of these users have to be released first.
    HoldsExpired {
        users: Vec<UserId>,
        /// The stamp at which they have expired.
        at: Timestamp,
    },
}

/// Decides all operations in this order. Returns a decision for each, and what to write.
pub(super) fn decide<'a>(
    mut books: Books,
    operations: impl IntoIterator<Item = &'a Operation>,
) -> (Vec<Decided>, Posting<'a>) {
    let mut ledger = Ledger::default();
    let decisions =
        operations.into_iter().map(|operation| decide_one(&mut books, &mut ledger, operation));
    let decisions = decisions.collect();
    (decisions, ledger.posting())
}

fn decide_one<'a>(books: &mut Books, ledger: &mut Ledger<'a>, operation: &'a Operation) -> Decided {
    if let Some(key) = operation.key()
        && let Some(stored) = books.keys.get(&(operation.owner(), key.clone()))
    {
        return Decided::Done(stored.replay_operation(operation));
    }
    let mut draft = Draft::new(books);
    let decision = match draft_of(&mut draft, operation) {
        Ok(decision) => {
            let accepted = draft.accept();
            ledger.apply(books, accepted);
            decision
        }
        Err(Stop::Refused { user, .. }) if books.with_expired_holds.contains(&user) => {
            // A bulk may need the money of several users, and would find them one after the other.
            let users: BTreeSet<UserId> = operation.users().collect();
            let users = users.intersection(&books.with_expired_holds).copied().collect();
            return Decided::HoldsExpired { users, at: books.stamp };
        }
        Err(Stop::Refused { at, .. }) => OperationDecision::Refused { at },
        Err(Stop::HoldsExpired(user)) => {
            return Decided::HoldsExpired { users: vec![user], at: books.stamp };
        }
        Err(Stop::Error(error)) => return Decided::Done(Err(error)),
    };
    if let Some(key) = operation.key() {
        let row = KeyRow {
            user: operation.owner(),
            key: key.as_str(),
            fingerprint: operation.fingerprint().as_str().to_owned(),
            answer: keys::operation_answer(&decision),
        };
        ledger.store_key(books, key, row);
    }
    Decided::Done(Ok(Outcome::fresh(decision)))
}

fn draft_of<'a>(
    draft: &mut Draft<'_, 'a>,
    operation: &'a Operation,
) -> Result<OperationDecision, Stop> {
    match operation {
        Operation::Transfer(transfer) => transfer::decide(draft, transfer),
        Operation::Reserve(reserve) => hold::reserve(draft, reserve),
        Operation::Capture(capture) => hold::capture(draft, capture),
        Operation::Release(release) => hold::release(draft, release),
        Operation::AllOrNone(all) => bulk::decide(draft, all),
    }
}

#[cfg(test)]
mod tests;
