//! `self`: one guarded `UPDATE`, which is its own transaction.
//!
//! # Protocol
//! One statement, one round trip, one commit. In short:
//! ```sql
//! UPDATE users SET balance = balance + $1, … WHERE id = $2 AND balance + $1 >= 0 RETURNING balance
//! ```
//! The same statement inserts the journal row and, where the change has a key, the key with its
//! outcome. A key that was used before disables the update, and its stored outcome is returned.
//!
//! # Why it is exact
//! The check and the write are one statement on one row. Under READ COMMITTED a statement that
//! finds the row locked waits. It then evaluates its `WHERE` again on the version that was committed
//! meanwhile. So of all statements that want the row, each decides on the result of the one before.
//! The balance it returns is the balance that it wrote itself. Where it returns none, the guard was
//! false, either on the snapshot of the statement or on the version it waited for: true at a moment
//! between request and answer.
//!
//! The upper bound stands in the same `WHERE`. A sum beyond 63 bits raises 22003, which rolls the
//! statement back, so "out of range" is never mistaken for "refused". The database may evaluate both
//! conditions of a refused change: a withdrawal makes the sum smaller, so it cannot raise the error.
//!
//! The lookup of the key sees the snapshot, so it can miss a key that a concurrent request used.
//! Then the insert of the key violates the primary key, everything is rolled back, and the next
//! attempt finds the key. Order of locks: the user's row, then the key.
//!
//! # Unknown user, or insufficient funds?
//! Neither updates a row. The second arm of the `UNION ALL` tells them apart in the same statement.
//! It is a primary-key lookup that only runs when nothing was updated.
//!
//! # Expired holds
//! A refusal looks at the user's holds in the same snapshot: if one has expired, nothing is written, its
//! money is released in a commit of its own, and the change is attempted again.
//!
//! # When the process dies
//! Before the server has the statement: nothing happened. After that, the server runs it to its end
//! whether or not a client listens. It is one transaction, so it is applied in full or not at all.
//! Only the answer can be lost, which is "outcome unknown".
//!
//! # When it loses
//! On one hot row each change waits for the commit of the one before: one flush of the log each.
//! Refusals without a key do not write and do not wait.

use sqlx::PgConnection;

use super::pooled::Pooled;
use crate::ledger::{Balance, Change, ChangeError, Decision, Key, Outcome, Reference};
use crate::store::error::Failure;
use crate::store::keys::Stored;

const WITHOUT_KEY: &str = r"
WITH changed AS (
    UPDATE users
    SET balance = balance + $1, version = version + 1,
        changed_at = greatest(statement_timestamp(), changed_at)
    WHERE id = $2 AND balance + $1 >= 0 AND balance + held + $1 <= 9223372036854775807
    RETURNING version, balance, held, changed_at
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at, reference)
    SELECT $2, version, 'change', $1, 0, balance, held, changed_at, $3 FROM changed
)
SELECT balance, false FROM changed
UNION ALL
SELECT NULL, u.held > 0 AND EXISTS (
    SELECT FROM holds h WHERE h.user_id = $2 AND h.state = 'open'
    AND h.expires_at <= greatest(statement_timestamp(), u.changed_at))
FROM users u WHERE u.id = $2 AND NOT EXISTS (SELECT FROM changed)";

const WITH_KEY: &str = r"
WITH stored AS MATERIALIZED (
    SELECT fingerprint, answer FROM idempotency_keys WHERE user_id = $2 AND key = $4
), changed AS (
    UPDATE users
    SET balance = balance + $1, version = version + 1,
        changed_at = greatest(statement_timestamp(), changed_at)
    WHERE id = $2 AND balance + $1 >= 0 AND balance + held + $1 <= 9223372036854775807
      AND NOT EXISTS (SELECT FROM stored)
    RETURNING version, balance, held, changed_at
), refused AS MATERIALIZED (
    SELECT u.held > 0 AND EXISTS (
        SELECT FROM holds h WHERE h.user_id = $2 AND h.state = 'open'
        AND h.expires_at <= greatest(statement_timestamp(), u.changed_at)) AS has_expired
    FROM users u
    WHERE u.id = $2 AND NOT EXISTS (SELECT FROM changed) AND NOT EXISTS (SELECT FROM stored)
), decided AS (
    SELECT balance FROM changed
    UNION ALL
    SELECT NULL FROM refused WHERE NOT has_expired
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at, key, reference)
    SELECT $2, version, 'change', $1, 0, balance, held, changed_at, $4, $3 FROM changed
), keyed AS (
    INSERT INTO idempotency_keys (user_id, key, fingerprint, answer)
    SELECT $2, $4, $5, CASE WHEN balance IS NOT NULL THEN ARRAY[balance] END FROM decided
    RETURNING user_id
)
SELECT balance, false AS has_expired, NULL::text AS fingerprint, NULL::bigint[] AS answer
FROM decided
UNION ALL
SELECT NULL, true, NULL, NULL FROM refused WHERE has_expired
UNION ALL
SELECT NULL, false, fingerprint, answer FROM stored";

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
    match update(connection, change).await.map_err(Failure::at_commit)? {
        Updated::Decided(decision) => Ok(Outcome::fresh(decision)),
        Updated::HoldsExpired => Err(Failure::HoldsExpired),
        Updated::NoUser => Err(ChangeError::UserNotFound.into()),
    }
}

/// The result of the statement for a change without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Updated {
    /// It was applied, or refused.
    Decided(Decision),
    /// It would be refused, but expired holds have to be released first. Nothing was written.
    HoldsExpired,
    /// There is no such user.
    NoUser,
}

/// The statement for a change without a key. `batched` sends it for a change that is alone in its
/// batch.
pub(super) async fn update(
    connection: &mut PgConnection,
    change: &Change,
) -> Result<Updated, sqlx::Error> {
    let row: Option<(Option<Balance>, bool)> = sqlx::query_as(WITHOUT_KEY)
        .bind(change.amount.get())
        .bind(change.user.get())
        .bind(change.reference.as_ref().map(Reference::as_str))
        .fetch_optional(connection)
        .await?;
    Ok(match row {
        None => Updated::NoUser,
        Some((Some(balance), _)) => Updated::Decided(Decision::Accepted(balance)),
        Some((None, true)) => Updated::HoldsExpired,
        Some((None, false)) => Updated::Decided(Decision::Refused),
    })
}

async fn with_key(
    connection: &mut PgConnection,
    change: &Change,
    key: &Key,
) -> Result<Outcome, Failure> {
    type Row = (Option<Balance>, bool, Option<String>, Option<Vec<i64>>);
    let fingerprint = change.fingerprint();
    let row: Option<Row> = sqlx::query_as(WITH_KEY)
        .bind(change.amount.get())
        .bind(change.user.get())
        .bind(change.reference.as_ref().map(Reference::as_str))
        .bind(key.as_str())
        .bind(fingerprint.as_str())
        .fetch_optional(connection)
        .await
        .map_err(Failure::at_commit)?;
    let (balance, has_expired, stored, answer) = row.ok_or(ChangeError::UserNotFound)?;
    if has_expired {
        return Err(Failure::HoldsExpired);
    }
    if let Some(stored) = stored {
        return Ok(Stored::from_columns(stored, answer).replay(&fingerprint)?);
    }
    Ok(Outcome::fresh(balance.map_or(Decision::Refused, Decision::Accepted)))
}
