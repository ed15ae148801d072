//! The journal: the write that every decision made in Rust ends with, and reading it back.

use sqlx::PgConnection;

use super::error::Failure;
use crate::balance::{Balance, Change, Key, UserId};

/// Writes an accepted change: the balance, its journal row and its key, in one statement, if the
/// row still has `version`. Returns whether it had.
///
/// The inserts return a column that nobody reads, so that a cluster relays a lost race as what it is
/// (see [`keys`](super::keys)).
///
/// # Errors
/// As the database says; see [`is_conflict`](super::keys::is_conflict).
pub async fn write(
    connection: &mut PgConnection,
    change: &Change,
    after: Balance,
    version: i64,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query(
        "WITH changed AS ( \
             UPDATE users SET balance = $3, version = version + 1 \
             WHERE id = $1 AND version = $4 \
             RETURNING version, balance \
         ), journaled AS ( \
             INSERT INTO balance_changes (user_id, version, amount, balance, key) \
             SELECT $1, version, $2, balance, $5 FROM changed \
             RETURNING user_id \
         ), kept AS ( \
             INSERT INTO idempotency_keys (user_id, key, amount, balance) \
             SELECT $1, $5, $2, balance FROM changed WHERE $5 IS NOT NULL \
             RETURNING user_id \
         ) \
         SELECT FROM changed",
    )
    .bind(change.user.get())
    .bind(change.amount.get())
    .bind(after)
    .bind(version)
    .bind(change.key.as_ref().map(Key::as_str))
    .fetch_optional(connection)
    .await?;
    Ok(written.is_some())
}

/// One row of the journal.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Entry {
    /// 1, 2, 3 … per user.
    pub version: i64,
    /// By how much.
    pub amount: i64,
    /// The balance right after it.
    pub balance: Balance,
    /// When its transaction began, RFC 3339 in UTC with microseconds.
    pub created_at: String,
    /// The idempotency key that it came with.
    pub key: Option<String>,
}

/// At most `limit` rows of a user's journal, newest first, with versions below `before`.
///
/// Reads the primary key backwards from `before`, so a page costs the same wherever it is.
pub async fn page(
    connection: &mut PgConnection,
    user: UserId,
    before: i64,
    limit: i64,
) -> Result<Vec<Entry>, Failure> {
    sqlx::query_as(
        "SELECT version, amount, balance, key, \
             to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
                 AS created_at \
         FROM balance_changes WHERE user_id = $1 AND version < $2 \
         ORDER BY version DESC LIMIT $3",
    )
    .bind(user.get())
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(Failure::before_commit)
}
