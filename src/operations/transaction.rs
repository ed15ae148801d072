//! The transaction of a batch: lock, read, decide, write, commit.
//!
//! 1. `SELECT … FOR UPDATE` locks the rows of all users, in order of their ids.
//! 2. A second statement reads holds and keys, and the stamp. It cannot be part of the first one, whose
//!    snapshot is older than the locks it waited for.
//! 3. [`decide`] decides all operations.
//! 4. One statement writes everything; see [`posting`].
//! 5. One commit for all.
//!
//! A batch that has nothing to write is rolled back, which costs no flush.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::books::Books;
use super::decide::{Decided, decide};
use crate::ledger::{Funds, HoldNumber, HoldState, Key, Operation, Timestamp, UserId};
use crate::store::error::{Failure, sqlstate};
use crate::store::keys::Stored;
use crate::store::posting::{self, HoldRow, UserRow};
use crate::store::session::set_lock_wait;

/// How the rows of several users can be locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Locking {
    /// In one statement.
    #[default]
    Together,
    /// One user after the other, where the tables are sharded.
    OneByOne,
}

/// One batch on its way to the database.
pub(super) struct Batch<'a> {
    pub(super) operations: Vec<&'a Operation>,
    /// How long to wait for each row, instead of the session's limit.
    pub(super) lock_wait: Option<Duration>,
    /// Changed where the database refuses to lock several users together.
    pub(super) locking: &'a mut Locking,
    /// Set right before the commit is sent. Until then, nothing can have been applied.
    pub(super) is_committing: &'a mut bool,
}

impl Batch<'_> {
    /// Decides all operations in order, and writes and commits the decisions.
    ///
    /// # Errors
    /// Nothing was applied, unless the failure is unknown.
    pub(super) async fn run(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Decided>, Failure> {
        let mut transaction = connection.begin().await.map_err(Failure::in_transaction)?;
        match self.decide_and_write(&mut transaction).await {
            Ok((decided, true)) => {
                *self.is_committing = true;
                transaction.commit().await.map_err(Failure::at_commit)?;
                Ok(decided)
            }
            Ok((decided, false)) => {
                transaction.rollback().await.map_err(Failure::in_transaction)?;
                Ok(decided)
            }
            Err(failure) => {
                // If this fails as well, the session fails its next check and is replaced.
                let _ = transaction.rollback().await;
                Err(failure)
            }
        }
    }

    /// Returns the decisions, and whether there is something to commit.
    async fn decide_and_write(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<(Vec<Decided>, bool), Failure> {
        if let Some(wait) = self.lock_wait {
            set_lock_wait(connection, wait).await.map_err(Failure::in_transaction)?;
        }
        let users: BTreeSet<UserId> =
            self.operations.iter().flat_map(|operation| operation.users()).collect();
        let users: Vec<UserId> = users.into_iter().collect();
        let locked = self.lock(connection, &users).await?;
        let books = read(connection, &self.operations, locked).await?;
        let stamp = books.stamp;
        let (decided, posting) = decide(books, self.operations.iter().copied());
        if posting.is_empty() {
            return Ok((decided, false));
        }
        posting::write(connection, stamp, &posting).await?;
        Ok((decided, true))
    }

    async fn lock(
        &mut self,
        connection: &mut PgConnection,
        users: &[UserId],
    ) -> Result<Vec<LockedUser>, Failure> {
        if *self.locking == Locking::OneByOne {
            return lock_one_by_one(connection, users).await.map_err(Failure::in_transaction);
        }
        lock_together(connection, users).await.map_err(|error| {
            if sqlstate(&error).as_deref() != Some("0A000") {
                return Failure::in_transaction(error);
            }
            *self.locking = Locking::OneByOne;
            Failure::NotSent(error.into())
        })
    }
}

/// A locked user's row. The time is in microseconds since 1970.
#[derive(sqlx::FromRow)]
struct LockedUser {
    id: i64,
    balance: i64,
    held: i64,
    version: i64,
    changed_at: i64,
}

async fn lock_together(
    connection: &mut PgConnection,
    users: &[UserId],
) -> Result<Vec<LockedUser>, sqlx::Error> {
    let ids: Vec<i64> = users.iter().map(|user| user.get()).collect();
    sqlx::query_as(
        r"
SELECT id, balance, held, version, (extract(epoch FROM changed_at) * 1000000)::bigint AS changed_at
FROM users WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
}

async fn lock_one_by_one(
    connection: &mut PgConnection,
    users: &[UserId],
) -> Result<Vec<LockedUser>, sqlx::Error> {
    let mut rows = Vec::with_capacity(users.len());
    for user in users {
        let row: Option<LockedUser> = sqlx::query_as(
            r"
SELECT id, balance, held, version, (extract(epoch FROM changed_at) * 1000000)::bigint AS changed_at
FROM users WHERE id = $1 FOR UPDATE",
        )
        .bind(user.get())
        .fetch_optional(&mut *connection)
        .await?;
        rows.extend(row);
    }
    Ok(rows)
}

/// A row is a kind, a user or none, and columns that depend on the kind.
const READ: &str = r"
WITH stamp AS MATERIALIZED (
    SELECT greatest((extract(epoch FROM statement_timestamp()) * 1000000)::bigint, $1) AS micros
)
SELECT 'stamp', 0::bigint, micros, NULL::bigint, NULL::bigint, NULL::bigint,
       NULL::text, NULL::text, NULL::bigint[]
FROM stamp
UNION ALL
SELECT 'expired', h.user_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM (
    SELECT DISTINCT user_id FROM holds
    WHERE user_id = ANY ($2) AND state = 'open'
      AND expires_at <= timestamptz 'epoch' + (SELECT micros FROM stamp) * interval '1 microsecond'
) AS h
UNION ALL
SELECT 'hold', h.user_id, h.hold, h.amount, h.captured,
       (extract(epoch FROM h.expires_at) * 1000000)::bigint, h.state::text, NULL, NULL
FROM unnest($3::bigint[], $4::bigint[]) AS q(user_id, hold)
JOIN holds h ON h.user_id = q.user_id AND h.hold = q.hold
UNION ALL
SELECT 'key', k.user_id, NULL, NULL, NULL, NULL, k.key, k.fingerprint, k.answer
FROM unnest($5::bigint[], $6::text[]) AS q(user_id, key)
JOIN idempotency_keys k ON k.user_id = q.user_id AND k.key = q.key";

type ReadRow = (
    String,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<Vec<i64>>,
);

/// Reads what belongs to the locked users: holds, keys, and the stamp.
async fn read(
    connection: &mut PgConnection,
    operations: &[&Operation],
    locked: Vec<LockedUser>,
) -> Result<Books, Failure> {
    let latest = locked.iter().map(|row| row.changed_at).max().unwrap_or(0);
    let with_holds: Vec<i64> = locked.iter().filter(|row| row.held > 0).map(|row| row.id).collect();
    let holds: BTreeSet<(i64, HoldNumber)> =
        operations.iter().filter_map(|operation| hold_of(operation)).collect();
    let (hold_users, holds): (Vec<i64>, Vec<HoldNumber>) = holds.into_iter().unzip();
    let keys: BTreeSet<(i64, &str)> = operations
        .iter()
        .filter_map(|operation| Some((operation.owner().get(), operation.key()?.as_str())))
        .collect();
    let (key_users, keys): (Vec<i64>, Vec<&str>) = keys.into_iter().unzip();
    let rows: Vec<ReadRow> = sqlx::query_as(READ)
        .bind(latest)
        .bind(with_holds)
        .bind(hold_users)
        .bind(holds)
        .bind(key_users)
        .bind(keys)
        .fetch_all(connection)
        .await
        .map_err(Failure::in_transaction)?;
    let mut books = Books {
        stamp: Timestamp::from_micros(latest),
        users: locked.iter().filter_map(user_row).collect(),
        with_expired_holds: BTreeSet::new(),
        holds: HashMap::new(),
        keys: HashMap::new(),
    };
    for row in rows {
        enter(&mut books, row).ok_or_else(|| {
            let cause = "an unexpected row came back for a batch of operations";
            Failure::in_transaction(sqlx::Error::Protocol(cause.into()))
        })?;
    }
    Ok(books)
}

/// The hold that an operation is about.
fn hold_of(operation: &Operation) -> Option<(i64, HoldNumber)> {
    match operation {
        Operation::Capture(capture) => Some((capture.user.get(), capture.hold)),
        Operation::Release(release) => Some((release.user.get(), release.hold)),
        Operation::Transfer(_) | Operation::Reserve(_) | Operation::AllOrNone(_) => None,
    }
}

fn user_row(row: &LockedUser) -> Option<(UserId, UserRow)> {
    let LockedUser { id, balance, held, version, .. } = *row;
    let user = UserId::new(id)?;
    Some((user, UserRow { user, funds: Funds { balance, held }, version }))
}

/// Enters a row into the books; `None` where it has another form than it should.
fn enter(books: &mut Books, row: ReadRow) -> Option<()> {
    let (kind, user, first, second, third, fourth, text, fingerprint, answer) = row;
    if kind == "stamp" {
        books.stamp = Timestamp::from_micros(first?);
        return Some(());
    }
    let user = UserId::new(user)?;
    match kind.as_str() {
        "expired" => drop(books.with_expired_holds.insert(user)),
        "hold" => {
            let row = HoldRow {
                user,
                hold: first?,
                amount: second?,
                captured: third?,
                expires_at: Timestamp::from_micros(fourth?),
                state: HoldState::from_name(&text?)?,
            };
            books.holds.insert((user, row.hold), row);
        }
        "key" => {
            let stored = Stored::from_columns(fingerprint?, answer);
            books.keys.insert((user, Key::new(&text?)?), stored);
        }
        _ => return None,
    }
    Some(())
}
