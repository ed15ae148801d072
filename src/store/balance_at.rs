//! A user's balance at a moment, or right after an entry of its journal.
//!
//! The balance at a moment is that of the last entry which is not stamped later. Such an answer is
//! *final*: whatever runs concurrently or comes later, no entry is stamped at that moment or earlier
//! any more. Where that cannot be had in time, there is no answer (503).
//!
//! # Protocol
//! 1. `SEARCH`. If the moment is before the user's `changed_at`, this is the answer.
//! 2. Otherwise `CLOSE`: `UPDATE users SET changed_at = $at + 1 µs WHERE … AND changed_at <= $at`,
//!    which commits by itself. If it finds the row, what it returns is the answer.
//! 3. Otherwise a change came first, and has set `changed_at` later than the moment: `SEARCH` again.
//!
//! One round trip for a moment before the user's last change; two, with one commit, for a later one.
//! Asked again, step 1 has the answer, so the same moment is written at most once. The commit is no
//! entry and leaves the version alone.
//!
//! # Why it is final
//! Whatever writes entries of a user locks its row, and stamps them under that lock with
//! `greatest(statement_timestamp(), changed_at)`, of the newest version of the row. That is true of the
//! five approaches, in the `UPDATE` that locks, and of operations on several users, in a statement
//! that runs after they have locked their rows. So along the versions of a row `changed_at` never runs
//! backwards, and no entry is stamped before the `changed_at` that it finds. `statement_timestamp()`
//! alone proves nothing: a statement waits for the row after it has taken its time.
//!
//! - Step 1 sees a committed version of the row with `changed_at > $at`. Entries that its snapshot does
//!   not have are of later versions, and so are stamped later than `$at`. All others are in the same
//!   snapshot, and have no version above the user's.
//! - Step 2 waits for a transaction that has the row locked, be it one that waits for the disk or for a
//!   standby with its commit. It then sees the row as that transaction has left it, and checks
//!   `changed_at` again. If it still writes, all entries up to now are stamped at `$at` or before, so the
//!   balance that it returns under the lock is the answer. Later ones are stamped after `$at`, since it
//!   has committed before it answers.
//! - Step 3 runs after another transaction has committed `changed_at > $at`, as in step 1.
//!
//! The clock plays no part in this, so it may have been set back, and `changed_at` may be ahead of it.
//! Nor do the time-outs of sessions: a statement of an instance with other limits, or of somebody's
//! `psql`, may be of any age. The clock only bounds what can be asked: no moment after both now and
//! `changed_at`, since to close a moment in the future would stamp changes with it.
//!
//! # Sessions and locks
//! The row is waited for as long as a change waits for it (`LOCK_WAIT_MILLIS`), then the answer is
//! 503. Order of locks: one row only. The session is one of those for reads, of which one user has at
//! most half: a locked row takes none from changes, and a lost connection leaves nothing unknown, since
//! whether the moment was closed shows in no answer.

use sqlx::PgConnection;

use super::Store;
use super::error::Failure;
use crate::ledger::{Balance, ChangeError, Timestamp, UserId};

/// A user at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceAt {
    /// What could be spent, in minor units.
    pub balance: Balance,
    /// What was set aside, in minor units.
    pub held: Balance,
    /// The last entry that was not later; 0 before the first one.
    pub version: i64,
    /// The moment. RFC 3339, UTC, with microseconds.
    pub at: String,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The answer, which is final.
    Found(BalanceAt),
    /// It has not happened yet. This is the last moment, or version, that can be asked for.
    Beyond(String),
}

impl Store {
    /// The balance at a moment.
    ///
    /// # Errors
    /// [`ChangeError::UserNotFound`]; [`ChangeError::NotApplied`] where the row stays locked; or an
    /// error of the database.
    pub async fn balance_at(&self, user: UserId, moment: Timestamp) -> Result<Lookup, ChangeError> {
        self.reads()
            .read(Some(user), move |connection| Box::pin(at(connection, user, moment)))
            .await
    }

    /// The balance right after an entry; zeros for version 0.
    ///
    /// # Errors
    /// [`ChangeError::UserNotFound`], or an error of the database.
    pub async fn balance_after(&self, user: UserId, version: i64) -> Result<Lookup, ChangeError> {
        let reading = self
            .reads()
            .read(Some(user), move |connection| Box::pin(after(connection, user, version)));
        reading.await
    }
}

/// A binary search over the versions, which have no gap, by their primary key. It finds the bits of
/// the version from the highest one down: a step is taken if there is an entry after it and this entry
/// is not too late. 63 look-ups, however many entries there are; those beyond the last entry all end
/// at the same page of the index. Without a search, `version` is null.
///
/// The microseconds are exact until the year 2255: the multiplication is one of floats.
const SEARCH: &str = r#"
WITH RECURSIVE asked AS MATERIALIZED (
    SELECT changed_at, 'epoch'::timestamptz + $2 * interval '1 microsecond' AS moment
    FROM users WHERE id = $1
), search AS (
    SELECT 0::bigint AS version, 4611686018427387904 AS step, moment
    FROM asked WHERE moment < changed_at
    UNION ALL
    SELECT version + CASE WHEN (
               SELECT c.created_at <= moment FROM balance_changes c
               WHERE c.user_id = $1 AND c.version = search.version + step
           ) THEN step ELSE 0 END,
           step / 2, moment
    FROM search WHERE step > 0
)
SELECT a.moment > greatest(a.changed_at, statement_timestamp()) AS is_beyond,
       to_char(greatest(a.changed_at, statement_timestamp()) AT TIME ZONE 'UTC',
               'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS latest,
       s.version, coalesce(c.balance, 0) AS balance, coalesce(c.held, 0) AS held
FROM asked a
LEFT JOIN search s ON s.step = 0
LEFT JOIN balance_changes c ON c.user_id = $1 AND c.version = s.version"#;

/// From now on no entry is stamped at the moment or before.
const CLOSE: &str = r"
UPDATE users
SET changed_at = 'epoch'::timestamptz + ($2 + 1) * interval '1 microsecond'
WHERE id = $1 AND changed_at <= 'epoch'::timestamptz + $2 * interval '1 microsecond'
RETURNING version, balance, held";

/// An entry. Version 0 is of the user's creation.
const AFTER: &str = r#"
SELECT u.version AS latest, c.balance, c.held,
       to_char(coalesce(c.created_at, u.created_at) AT TIME ZONE 'UTC',
               'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at
FROM users u LEFT JOIN balance_changes c ON c.user_id = u.id AND c.version = $2
WHERE u.id = $1"#;

#[derive(sqlx::FromRow)]
struct Searched {
    is_beyond: bool,
    latest: String,
    version: Option<i64>,
    balance: Balance,
    held: Balance,
}

#[derive(sqlx::FromRow)]
struct Closed {
    version: i64,
    balance: Balance,
    held: Balance,
}

#[derive(sqlx::FromRow)]
struct After {
    latest: i64,
    balance: Option<Balance>,
    held: Option<Balance>,
    at: String,
}

async fn at(
    connection: &mut PgConnection,
    user: UserId,
    moment: Timestamp,
) -> Result<Lookup, Failure> {
    let at = moment.to_string();
    // The second search comes after a change that has set `changed_at` later than the moment.
    for _ in 0..2 {
        let Searched { is_beyond, latest, version, balance, held } =
            search(connection, user, moment).await?;
        if is_beyond {
            return Ok(Lookup::Beyond(latest));
        }
        if let Some(version) = version {
            return Ok(Lookup::Found(BalanceAt { balance, held, version, at }));
        }
        if let Some(Closed { version, balance, held }) = close(connection, user, moment).await? {
            return Ok(Lookup::Found(BalanceAt { balance, held, version, at }));
        }
    }
    Err(ChangeError::Internal("the user's row went back in time".into()).into())
}

async fn search(
    connection: &mut PgConnection,
    user: UserId,
    moment: Timestamp,
) -> Result<Searched, Failure> {
    let row: Option<Searched> = sqlx::query_as(SEARCH)
        .bind(user.get())
        .bind(moment.micros())
        .fetch_optional(connection)
        .await
        .map_err(Failure::before_commit)?;
    Ok(row.ok_or(ChangeError::UserNotFound)?)
}

async fn close(
    connection: &mut PgConnection,
    user: UserId,
    moment: Timestamp,
) -> Result<Option<Closed>, Failure> {
    sqlx::query_as(CLOSE)
        .bind(user.get())
        .bind(moment.micros())
        .fetch_optional(connection)
        .await
        .map_err(Failure::at_commit)
}

async fn after(
    connection: &mut PgConnection,
    user: UserId,
    version: i64,
) -> Result<Lookup, Failure> {
    let row: Option<After> = sqlx::query_as(AFTER)
        .bind(user.get())
        .bind(version)
        .fetch_optional(connection)
        .await
        .map_err(Failure::before_commit)?;
    let After { latest, balance, held, at } = row.ok_or(ChangeError::UserNotFound)?;
    if version > latest {
        return Ok(Lookup::Beyond(latest.to_string()));
    }
    let (balance, held) = match (version, balance.zip(held)) {
        (_, Some(found)) => found,
        (0, None) => (0, 0),
        (_, None) => return Err(ChangeError::Internal("the journal has a gap".into()).into()),
    };
    Ok(Lookup::Found(BalanceAt { balance, held, version, at }))
}
