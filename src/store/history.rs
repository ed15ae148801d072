//! A user's history: the journal, backwards page by page, or forwards as it grows.

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::error::Failure;
use crate::ledger::{Balance, HoldNumber, Timestamp, UserId};

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
    /// When it was made.
    pub created_at: Timestamp,
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
        r"
SELECT version, kind::text, amount, held_amount, balance, held, created_at,
       reference, key, hold, peer_user, peer_version
FROM balance_changes
WHERE user_id = $1 AND version < $2
ORDER BY version DESC
LIMIT $3",
    )
    .bind(user.get())
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(Failure::before_commit)
}

/// An entry of one of several journals.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct NewEntry {
    /// Whose journal it is.
    #[sqlx(rename = "user_id")]
    pub user: i64,
    /// When it was read, by the database's clock.
    pub read_at: Timestamp,
    /// The entry.
    #[sqlx(flatten)]
    pub entry: Entry,
}

/// Passes on the entries of several journals: of each user at most `limit`, those that follow its version.
/// The order is that of users and versions.
///
/// A user without such entries costs a search in the primary key. Versions have no gap, so a range of
/// them limits the entries of each user; a `LIMIT` for each would need a lateral join, which a cluster that
/// shards users refuses.
///
/// # Errors
/// As the database says. Some entries may have been passed on.
pub async fn after(
    connection: &mut PgConnection,
    users: &[i64],
    versions: &[i64],
    limit: i64,
    mut pass: impl FnMut(NewEntry),
) -> Result<(), Failure> {
    let mut rows = sqlx::query_as(
        r"
SELECT c.user_id, statement_timestamp() AS read_at,
       c.version, c.kind::text, c.amount, c.held_amount, c.balance, c.held, c.created_at,
       c.reference, c.key, c.hold, c.peer_user, c.peer_version
FROM unnest($1::bigint[], $2::bigint[]) AS known (user_id, version)
JOIN balance_changes c ON c.user_id = known.user_id
    AND c.version > known.version AND c.version <= known.version + $3
ORDER BY c.user_id, c.version",
    )
    .bind(users)
    .bind(versions)
    .bind(limit)
    .fetch(connection);
    while let Some(entry) = rows.try_next().await.map_err(Failure::before_commit)? {
        pass(entry);
    }
    Ok(())
}
