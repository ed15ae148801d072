//! Operations, each in a transaction: locks the users in order of id, reads their holds and keys in later
//! statements, decides, writes, commits, and only then answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::{PgConnection, PgPool};

use super::answer::Answer;
use super::books::Books;
use super::bug::{Bug, Planted};
use super::decide::decide;
use super::operation::{Action, Operation};
use super::refused::Refused;
use super::store::{Failure, Store, Used, Writing};
use super::{mistakes, rows};

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) store: Store,
    /// Used by [`Bug::StaleRefusal`] alone.
    refused: Refused,
}

impl Ledger {
    pub(super) fn new(pool: PgPool, planted: Planted) -> Arc<Self> {
        Arc::new(Self { store: Store::new(pool, planted), refused: Refused::default() })
    }

    /// Applies each operation or none of them has an effect, and answers each for itself.
    pub(super) async fn run(self: &Arc<Self>, batch: Vec<Operation>) -> Vec<Answer> {
        // A task of its own: a transaction must not be dropped where its client hangs up.
        let ledger = Arc::clone(self);
        let running = tokio::spawn(async move { ledger.answer(&batch).await });
        running.await.expect("a transaction does not panic")
    }

    async fn answer(&self, batch: &[Operation]) -> Vec<Answer> {
        if self.store.planted.has(Bug::StaleRefusal)
            && let Some(answer) = self.refused.answer(batch)
        {
            return vec![answer];
        }
        if self.store.planted.has(Bug::ReadModifyWrite)
            && let [change @ Operation { action: Action::Change { user, amount }, key: None, .. }] =
                batch
        {
            match mistakes::read_modify_write(&self.store, change, *user, *amount).await {
                Ok(answer) => return vec![answer],
                Err(Failure::Unknown) => return vec![Answer::unknown()],
                // Whatever is no plain change is left to the code that is right.
                Err(Failure::NotApplied) => {}
            }
        }
        // The batch is split after a time-out, and nobody asks whether its first half was applied.
        if batch.len() > 1 && self.store.planted.strikes(Bug::SplitBatchAppliedTwice, 20) {
            let _ = self.attempt(&batch[..batch.len() / 2]).await;
        }
        let mut result = self.attempt(batch).await;
        // A lost connection is taken for a failure, whenever it was lost.
        if self.store.planted.has(Bug::RetryAfterUnknownCommit) && result.is_err() {
            result = self.attempt(batch).await;
        }
        match result {
            Ok(mut answers) => {
                if self.store.planted.has(Bug::StaleRefusal) {
                    self.refused.note(batch, &answers);
                }
                mistakes::spoil(&self.store.planted, &mut answers);
                answers
            }
            Err(Failure::NotApplied) => vec![Answer::not_applied(); batch.len()],
            Err(Failure::Unknown) => vec![Answer::unknown(); batch.len()],
        }
    }

    /// One transaction.
    async fn attempt(&self, batch: &[Operation]) -> Result<Vec<Answer>, Failure> {
        let mut transaction = self.store.pool.begin().await?;
        let mut books = self.lock(&mut transaction, batch).await?;
        let mut used = rows::keys(&mut transaction, &self.keys_of(batch)).await?;
        let (mut answers, mut keys) = (BTreeMap::new(), Vec::new());
        for number in self.order(batch) {
            let operation = &batch[number];
            let place = self.place(operation);
            if let Some(used) = place.as_ref().and_then(|place| used.get(place)) {
                answers.insert(number, self.replay(used, operation, &books));
                continue;
            }
            let answer = decide(&mut books, operation, &self.store.planted);
            if let Some(place) = place
                && self.is_kept(&answer)
            {
                let new = Used { fingerprint: operation.fingerprint(), answer: answer.clone() };
                used.insert(place.clone(), new.clone());
                keys.push((place, new));
            }
            answers.insert(number, answer);
        }
        mistakes::write_and_commit(&self.store, transaction, Writing { books, keys }).await?;
        Ok(answers.into_values().collect())
    }

    /// The order in which a batch is decided: that of the input.
    fn order(&self, batch: &[Operation]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        // Deposits are decided first, so that more of the withdrawals can be paid.
        if self.store.planted.has(Bug::DepositsFirst) {
            order.sort_by_key(|number| match batch[*number].action {
                Action::Change { amount, .. } => amount < 0,
                _ => false,
            });
        }
        order
    }

    /// The users, locked, and what else belongs to the decisions.
    async fn lock(
        &self,
        connection: &mut PgConnection,
        batch: &[Operation],
    ) -> Result<Books, sqlx::Error> {
        let users: Vec<i64> = batch.iter().flat_map(Operation::users).collect();
        let named: Vec<_> = batch.iter().filter_map(Operation::hold).collect();
        let early = if self.store.planted.has(Bug::HoldCapturedTwice) {
            // The state of the hold is read before the lock, and may be another one under it.
            Some(rows::holds(connection, &users, &named, 0).await?)
        } else {
            None
        };
        let begun = if self.store.planted.has(Bug::MomentNotFinal) {
            // The time is that of the beginning, before the wait for the locks, as `now()` gives it.
            Some(rows::now(connection).await?)
        } else {
            None
        };
        let (users, changed_at) = rows::lock(connection, users).await?;
        let now = rows::now(connection).await?;
        let mut stamp = begun.unwrap_or(now).max(changed_at);
        // The clock is set back by up to half a second, and is believed.
        if self.store.planted.strikes(Bug::ClockRunsBackwards, 50) {
            stamp = now - fastrand::i64(100_000..500_000);
        }
        let ids: Vec<i64> = users.keys().copied().collect();
        let mut holds = rows::holds(connection, &ids, &named, stamp).await?;
        holds.extend(early.unwrap_or_default());
        let (entries, changed_holds) = Default::default();
        Ok(Books { stamp, users, holds, entries, changed_holds })
    }

    fn keys_of(&self, batch: &[Operation]) -> Vec<(i64, String)> {
        batch.iter().filter_map(|operation| self.place(operation)).collect()
    }

    fn place(&self, operation: &Operation) -> Option<(i64, String)> {
        let key = operation.key.as_ref()?;
        // Each route keeps keys of its own, so that a retry through another one is new.
        let key = if self.store.planted.has(Bug::KeyPerRoute) {
            format!("{} {key}", operation.route)
        } else {
            key.clone()
        };
        Some((operation.owner(), key))
    }

    fn is_kept(&self, answer: &Answer) -> bool {
        // Only what was applied is stored with its key.
        if self.store.planted.has(Bug::RefusalNotKept) {
            return answer.is_success();
        }
        answer.is_kept()
    }

    fn replay(&self, used: &Used, operation: &Operation, books: &Books) -> Answer {
        // The key alone decides, whatever is asked for.
        let any = self.store.planted.has(Bug::KeyForAnyRequest);
        if !any && used.fingerprint != operation.fingerprint() {
            return Answer::error(422, "The Idempotency-Key was used before with another request");
        }
        // The key says that it was done, and the balance is looked up.
        if self.store.planted.has(Bug::ReplayOfNow)
            && let Action::Change { user, .. } = operation.action
            && used.answer.is_success()
        {
            return Answer::balance(books.users[&user].balance);
        }
        used.answer.clone()
    }
}
