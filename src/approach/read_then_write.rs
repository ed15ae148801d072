//! Read, decide in Rust, write: the part that `transaction-pessimistic-locking`,
//! `optimistic-locking` and `serializable` share. They differ in what they read with, and in what
//! surrounds these statements.

use sqlx::{PgConnection, Postgres, Transaction};

use crate::ledger::{
    Balance, Change, ChangeError, Decision, Fingerprint, Funds, Key, Outcome, Reference,
};
use crate::store::error::Failure;
use crate::store::keys::{self, Stored};

/// How a user's row is read, without a key and with one.
///
/// Without a key there is no join: a cluster that shards the tables refuses a join of which one side
/// is unknown when it is planned (`k.key = NULL`).
pub(super) struct Reading {
    without_key: &'static str,
    with_key: &'static str,
}

/// Takes no lock. One snapshot has the funds and tells whether the user has a hold whose time is over.
pub(super) const UNLOCKED: Reading = Reading {
    without_key: r"
SELECT u.balance, u.held, u.version, u.held > 0 AND EXISTS (
    SELECT FROM holds h WHERE h.user_id = $1 AND h.state = 'open'
    AND h.expires_at <= greatest(statement_timestamp(), u.changed_at))
FROM users u WHERE u.id = $1",
    with_key: r"
SELECT u.balance, u.held, u.version, u.held > 0 AND EXISTS (
    SELECT FROM holds h WHERE h.user_id = $1 AND h.state = 'open'
    AND h.expires_at <= greatest(statement_timestamp(), u.changed_at)),
    k.fingerprint, k.answer
FROM users u LEFT JOIN idempotency_keys k ON k.user_id = u.id AND k.key = $2
WHERE u.id = $1",
};

/// Locks the user's row until the transaction ends.
///
/// A statement that had to wait for the lock returns the newest balance, but the key as its snapshot
/// had it before the wait. The primary key catches what the snapshot missed. The holds are those of the
/// snapshot as well. One that was resolved during the wait may count as expired, which costs an attempt.
/// One that was made during the wait has not expired yet, because the moment of the statement decides.
pub(super) const LOCKED: Reading = Reading {
    without_key: r"
SELECT u.balance, u.held, u.version, u.held > 0 AND EXISTS (
    SELECT FROM holds h WHERE h.user_id = $1 AND h.state = 'open'
    AND h.expires_at <= greatest(statement_timestamp(), u.changed_at))
FROM users u WHERE u.id = $1 FOR UPDATE OF u",
    with_key: r"
SELECT u.balance, u.held, u.version, u.held > 0 AND EXISTS (
    SELECT FROM holds h WHERE h.user_id = $1 AND h.state = 'open'
    AND h.expires_at <= greatest(statement_timestamp(), u.changed_at)),
    k.fingerprint, k.answer
FROM users u LEFT JOIN idempotency_keys k ON k.user_id = u.id AND k.key = $2
WHERE u.id = $1
FOR UPDATE OF u",
};

/// Writes an accepted change, its journal row and its key, if the row still has the version that was
/// read.
///
/// The inserts return a column that nobody reads; see [`keys`] for the reason.
const WRITE: &str = r"
WITH changed AS (
    UPDATE users
    SET balance = $3, version = version + 1,
        changed_at = greatest(statement_timestamp(), changed_at)
    WHERE id = $1 AND version = $4
    RETURNING version, balance, held, changed_at
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at, key, reference)
    SELECT $1, version, 'change', $2, 0, balance, held, changed_at, $5, $6 FROM changed
    RETURNING user_id
), keyed AS (
    INSERT INTO idempotency_keys (user_id, key, fingerprint, answer)
    SELECT $1, $5, $7, ARRAY[balance] FROM changed WHERE $5 IS NOT NULL
    RETURNING user_id
)
SELECT FROM changed";

/// Writes only the key of a decision that changed no balance: a refusal, or a read.
const WRITE_KEY: &str =
    "INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) VALUES ($1, $2, $3, $4)";

/// What a change is decided on, of one snapshot.
pub(super) struct Loaded {
    funds: Funds,
    version: i64,
    /// Whether a hold that is still open has expired.
    has_expired: bool,
    /// What the key was used for.
    stored: Option<Stored>,
}

/// A decision that was carried out.
pub(super) struct Decided {
    outcome: Outcome,
    wrote: bool,
}

/// Reads what a change is decided on.
///
/// # Errors
/// As the database says; [`Failure::Race`] among them, at SERIALIZABLE.
pub(super) async fn load(
    connection: &mut PgConnection,
    change: &Change,
    reading: &Reading,
) -> Result<Loaded, Failure> {
    type Row = (Balance, Balance, i64, bool);
    type KeyedRow = (Balance, Balance, i64, bool, Option<String>, Option<Vec<i64>>);
    let user = change.user.get();
    let row: Option<KeyedRow> = match &change.key {
        None => {
            let query = sqlx::query_as(reading.without_key).bind(user);
            let row: Option<Row> =
                query.fetch_optional(connection).await.map_err(Failure::before_commit)?;
            row.map(|(balance, held, version, expired)| {
                (balance, held, version, expired, None, None)
            })
        }
        Some(key) => {
            let query = sqlx::query_as(reading.with_key).bind(user).bind(key.as_str());
            query.fetch_optional(connection).await.map_err(Failure::before_commit)?
        }
    };
    let (balance, held, version, has_expired, fingerprint, answer) =
        row.ok_or(ChangeError::UserNotFound)?;
    let stored = fingerprint.map(|fingerprint| Stored::from_columns(fingerprint, answer));
    Ok(Loaded { funds: Funds { balance, held }, version, has_expired, stored })
}

/// Replays the outcome that is stored with the key; otherwise decides, and writes the decision if the
/// row still has the version that was loaded. `failed` classifies a failure of the write: it depends
/// on whether the statement commits by itself.
///
/// # Errors
/// [`Failure::Race`] where another change came in between, and [`Failure::HoldsExpired`] where expired
/// holds have to be released first; then nothing was written.
pub(super) async fn decide_and_write(
    connection: &mut PgConnection,
    change: &Change,
    loaded: Loaded,
    failed: fn(sqlx::Error) -> Failure,
) -> Result<Decided, Failure> {
    if let Some(stored) = loaded.stored {
        return Ok(Decided { outcome: stored.replay(&change.fingerprint())?, wrote: false });
    }
    let decision = loaded.funds.decide(change.amount)?;
    let wrote = match decision {
        Decision::Accepted(after) if !change.amount.is_zero() => {
            if !write(connection, change, after, loaded.version).await.map_err(failed)? {
                return Err(Failure::Race("another change came first, every time".into()));
            }
            true
        }
        Decision::Refused if loaded.has_expired => return Err(Failure::HoldsExpired),
        Decision::Accepted(_) | Decision::Refused => match &change.key {
            Some(key) => {
                write_key(connection, change, key, decision).await.map_err(failed)?;
                true
            }
            None => false,
        },
    };
    Ok(Decided { outcome: Outcome::fresh(decision), wrote })
}

impl Decided {
    /// The outcome, where each statement has committed by itself.
    pub(super) fn outcome(self) -> Outcome {
        self.outcome
    }
}

/// Ends the transaction, and with it its locks, before the client gets its answer. A transaction that
/// wrote nothing is rolled back: a connection that is lost during a rollback leaves nothing unknown.
pub(super) async fn end(
    transaction: Transaction<'_, Postgres>,
    decided: Result<Decided, Failure>,
) -> Result<Outcome, Failure> {
    match decided {
        Ok(Decided { outcome, wrote: true }) => {
            transaction.commit().await.map_err(Failure::at_commit)?;
            Ok(outcome)
        }
        Ok(Decided { outcome, wrote: false }) => {
            transaction.rollback().await.map_err(Failure::before_commit)?;
            Ok(outcome)
        }
        Err(failure) => {
            // A dropped transaction would keep its locks until the session is used again. If this
            // rollback fails as well, the session fails its next check and is replaced.
            let _ = transaction.rollback().await;
            Err(failure)
        }
    }
}

/// Returns whether the row still had `version`.
async fn write(
    connection: &mut PgConnection,
    change: &Change,
    after: Balance,
    version: i64,
) -> Result<bool, sqlx::Error> {
    let fingerprint = change.key.as_ref().map(|_| change.fingerprint());
    let written = sqlx::query(WRITE)
        .bind(change.user.get())
        .bind(change.amount.get())
        .bind(after)
        .bind(version)
        .bind(change.key.as_ref().map(Key::as_str))
        .bind(change.reference.as_ref().map(Reference::as_str))
        .bind(fingerprint.as_ref().map(Fingerprint::as_str))
        .fetch_optional(connection)
        .await?;
    Ok(written.is_some())
}

async fn write_key(
    connection: &mut PgConnection,
    change: &Change,
    key: &Key,
    decision: Decision,
) -> Result<(), sqlx::Error> {
    sqlx::query(WRITE_KEY)
        .bind(change.user.get())
        .bind(key.as_str())
        .bind(change.fingerprint().as_str())
        .bind(keys::answer(decision))
        .execute(connection)
        .await?;
    Ok(())
}
