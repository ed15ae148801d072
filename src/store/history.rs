//! A user's history: the journal, page by page.

use sqlx::PgConnection;

use super::error::Failure;
use crate::ledger::{Balance, HoldNumber, UserId};

/// One entry of the journal, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Entry {
    /// Its number among the user's entries.
    pub version: i64,
    /// The kind of the operation.
    pub kind: String,
    /// By how much the balance changed, in minor units.
    pub amount: i64,
    /// By how much the held money changed, in minor units.
    pub held_amount: i64,
    /// The balance right after it.
    pub balance: Balance,
    /// The held money right after it.
    pub held: Balance,
    /// RFC 3339, UTC, with microseconds.
    pub created_at: String,
    /// The client's own text.
    pub reference: Option<String>,
    /// The idempotency key of the operation.
    pub key: Option<String>,
    /// The hold that it made, captured, released or expired.
    pub hold: Option<HoldNumber>,
    /// The other user of a transfer, or of a capture to somebody.
    pub peer_user: Option<i64>,
    /// The version of that user's entry.
    pub peer_version: Option<i64>,
}

/// At most `limit` entries of a user's journal, newest first, with versions below `before`.
///
/// Reads the primary key backwards from `before`, so each page costs the same.
pub async fn page(
    connection: &mut PgConnection,
    user: UserId,
    before: i64,
    limit: i64,
) -> Result<Vec<Entry>, Failure> {
    sqlx::query_as(
        r#"
SELECT version, kind::text, amount, held_amount, balance, held,
       to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
       reference, key, hold, peer_user, peer_version
FROM balance_changes
WHERE user_id = $1 AND version < $2
ORDER BY version DESC
LIMIT $3"#,
    )
    .bind(user.get())
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(Failure::before_commit)
}
