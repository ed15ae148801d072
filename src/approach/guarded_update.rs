//! `self`: one guarded `UPDATE`, which is its own transaction.
//!
//! # Protocol
//! One statement, one round trip, one commit. In short:
//! ```sql
//! UPDATE users SET balance = balance + $1, … WHERE id = $2 AND balance + $1 >= 0 RETURNING balance
//! ```
//! The same statement inserts the journal row and, where there is one, the key with what came of
//! it; a key that was used before switches the update off and is answered instead.
//!
//! # Why it is exact
//! The check and the write are one statement on one row. Under READ COMMITTED a statement that
//! finds the row locked waits, and then checks its `WHERE` again on the version that was committed
//! meanwhile; so of all statements that want the row, each decides on the result of the one before.
//! What it returns is the balance that it wrote itself. Where it returns nothing, the guard was
//! false, either on the snapshot of the statement or on the version it waited for: true at a moment
//! between request and answer.
//!
//! The look-up of the key sees the snapshot, so it can miss one that was used meanwhile. Then the
//! insert of the key breaks the primary key, everything is rolled back, and the next try finds it.
//! Order of locks: the user's row, then the key.
//!
//! # Unknown user or no money?
//! Both touch no row. The second arm of the `UNION ALL` tells them apart in the same statement; it
//! is a primary-key look-up that only runs when nothing was updated.
//!
//! # When the process dies
//! Before the server has the statement: nothing happened. After that, the server runs it to its end
//! whether or not anybody listens: it is one transaction, so it is there in full or not at all.
//! Only the answer can be lost, which is "outcome unknown".
//!
//! # When it loses
//! On one hot row each change waits for the commit of the one before: one flush of the log each.
//! Refusals without a key do not write and do not wait.

use sqlx::PgConnection;

use super::pooled::Pooled;
use crate::balance::{Balance, Change, ChangeError, Decision, Key, Outcome};
use crate::store::error::Failure;
use crate::store::keys::Prior;

#[derive(Default)]
pub(super) struct GuardedUpdate;

impl Pooled for GuardedUpdate {
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        match &change.key {
            None => without_key(connection, change).await,
            Some(key) => with_key(connection, change, key).await,
        }
    }
}

async fn without_key(connection: &mut PgConnection, change: &Change) -> Result<Outcome, Failure> {
    let decided = update(connection, change).await.map_err(Failure::at_commit)?;
    Ok(Outcome::fresh(decided.ok_or(ChangeError::UserNotFound)?))
}

/// The statement for a change without a key; `None` where there is no such user. `batched` sends it
/// for a change that is alone in its batch.
pub(super) async fn update(
    connection: &mut PgConnection,
    change: &Change,
) -> Result<Option<Decision>, sqlx::Error> {
    let row: Option<(Option<Balance>,)> = sqlx::query_as(
        "WITH changed AS ( \
             UPDATE users SET balance = balance + $1, version = version + 1 \
             WHERE id = $2 AND balance + $1 >= 0 \
             RETURNING version, balance \
         ), journaled AS ( \
             INSERT INTO balance_changes (user_id, version, amount, balance) \
             SELECT $2, version, $1, balance FROM changed \
         ) \
         SELECT balance FROM changed \
         UNION ALL \
         SELECT NULL FROM users WHERE id = $2 AND NOT EXISTS (SELECT FROM changed)",
    )
    .bind(change.amount.get())
    .bind(change.user.get())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(balance,)| balance.map_or(Decision::Refused, Decision::Accepted)))
}

async fn with_key(
    connection: &mut PgConnection,
    change: &Change,
    key: &Key,
) -> Result<Outcome, Failure> {
    let row: Option<(Option<Balance>, i64, bool)> = sqlx::query_as(
        "WITH prior AS MATERIALIZED ( \
             SELECT amount, balance FROM idempotency_keys WHERE user_id = $2 AND key = $3 \
         ), changed AS ( \
             UPDATE users SET balance = balance + $1, version = version + 1 \
             WHERE id = $2 AND balance + $1 >= 0 AND NOT EXISTS (SELECT FROM prior) \
             RETURNING version, balance \
         ), decided AS ( \
             SELECT balance FROM changed \
             UNION ALL \
             SELECT NULL FROM users WHERE id = $2 \
                 AND NOT EXISTS (SELECT FROM changed) AND NOT EXISTS (SELECT FROM prior) \
         ), journaled AS ( \
             INSERT INTO balance_changes (user_id, version, amount, balance, key) \
             SELECT $2, version, $1, balance, $3 FROM changed \
         ), kept AS ( \
             INSERT INTO idempotency_keys (user_id, key, amount, balance) \
             SELECT $2, $3, $1, balance FROM decided \
             RETURNING user_id \
         ) \
         SELECT balance, $1, false FROM decided \
         UNION ALL \
         SELECT balance, amount, true FROM prior",
    )
    .bind(change.amount.get())
    .bind(change.user.get())
    .bind(key.as_str())
    .fetch_optional(connection)
    .await
    .map_err(Failure::at_commit)?;
    let (balance, amount, replayed) = row.ok_or(ChangeError::UserNotFound)?;
    if replayed {
        let prior = Prior::from_columns(amount, balance)
            .ok_or_else(|| ChangeError::Internal("a stored amount is out of range".into()))?;
        return Ok(prior.replay(change.amount)?);
    }
    Ok(Outcome::fresh(balance.map_or(Decision::Refused, Decision::Accepted)))
}
