//! Idempotency keys: what came of a change is kept with its key and answered again.
//!
//! Key, change and journal row commit together. What makes it exact is the primary key of
//! `idempotency_keys` alone: of two changes with the same key only one can commit. The other fails
//! with `unique_violation`, is rolled back in full, and finds the outcome when it is tried again.
//!
//! Every statement that writes a key locks the user's row first, so that no two of them can wait
//! for each other in a circle.

use sqlx::PgConnection;

use super::error::{Sent, change_error};
use crate::balance::{Amount, Balance, Change, ChangeError, Decision, Key, Outcome};

/// The constraints that a key used twice breaks.
const PRIMARY_KEYS: [&str; 2] = ["idempotency_keys_pkey", "user_creation_keys_pkey"];

/// What a key was used for, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prior {
    /// By how much the change was.
    pub amount: Amount,
    /// What came of it.
    pub decision: Decision,
}

impl Prior {
    /// From the columns `amount` and `balance`.
    pub fn from_columns(amount: i64, balance: Option<Balance>) -> Option<Self> {
        let decision = balance.map_or(Decision::Refused, Decision::Accepted);
        Amount::new(amount).map(|amount| Self { amount, decision })
    }

    /// The same outcome again.
    ///
    /// # Errors
    /// [`ChangeError::KeyReused`] where the change is another one.
    pub fn replay(self, amount: Amount) -> Result<Outcome, ChangeError> {
        if self.amount != amount {
            return Err(ChangeError::KeyReused);
        }
        Ok(Outcome { decision: self.decision, replayed: true })
    }
}

/// Whether the error says that somebody else used the key in the meantime: all is rolled back, and
/// another try finds what came of it.
pub fn is_conflict(error: &sqlx::Error) -> bool {
    let Some(answer) = error.as_database_error() else { return false };
    let constraint = answer.constraint().unwrap_or_default();
    answer.code().as_deref() == Some("23505") && PRIMARY_KEYS.contains(&constraint)
}

/// Keeps a decision that changed no balance: a refusal, or a read. Nothing to do without a key.
/// Returns whether there was.
///
/// # Errors
/// As the database says; see [`is_conflict`].
pub async fn keep(
    connection: &mut PgConnection,
    change: &Change,
    decision: Decision,
) -> Result<bool, sqlx::Error> {
    let Some(key) = &change.key else { return Ok(false) };
    let balance = match decision {
        Decision::Accepted(balance) => Some(balance),
        Decision::Refused => None,
    };
    sqlx::query(
        "INSERT INTO idempotency_keys (user_id, key, amount, balance) VALUES ($1, $2, $3, $4)",
    )
    .bind(change.user.get())
    .bind(key.as_str())
    .bind(change.amount.get())
    .bind(balance)
    .execute(connection)
    .await?;
    Ok(true)
}

/// A user's row, and what the change's key was used for, as one snapshot has them.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The balance to decide on.
    pub balance: Balance,
    /// The version that goes with it.
    pub version: i64,
    /// The key was used before.
    pub prior: Option<Prior>,
}

/// Reads what there is to decide on, without a lock.
pub async fn look(connection: &mut PgConnection, change: &Change) -> Result<Seen, ChangeError> {
    const SQL: &str = "SELECT u.balance, u.version, k.amount, k.balance \
         FROM users u LEFT JOIN idempotency_keys k ON k.user_id = u.id AND k.key = $2 \
         WHERE u.id = $1";
    see(connection, change, SQL).await
}

/// Reads what there is to decide on, and keeps the user's row locked until the transaction ends.
///
/// Where it had to wait for the lock, the balance is the newest, but the key is as the snapshot
/// before the wait had it; the primary key catches what was missed.
pub async fn look_and_lock(
    connection: &mut PgConnection,
    change: &Change,
) -> Result<Seen, ChangeError> {
    const SQL: &str = "SELECT u.balance, u.version, k.amount, k.balance \
         FROM users u LEFT JOIN idempotency_keys k ON k.user_id = u.id AND k.key = $2 \
         WHERE u.id = $1 FOR UPDATE OF u";
    see(connection, change, SQL).await
}

async fn see(
    connection: &mut PgConnection,
    change: &Change,
    sql: &'static str,
) -> Result<Seen, ChangeError> {
    let row: Option<(Balance, i64, Option<i64>, Option<Balance>)> = sqlx::query_as(sql)
        .bind(change.user.get())
        .bind(change.key.as_ref().map(Key::as_str))
        .fetch_optional(connection)
        .await
        .map_err(|error| change_error(error, Sent::NothingFinal))?;
    let (balance, version, prior_amount, prior_balance) = row.ok_or(ChangeError::UserNotFound)?;
    let prior = prior_amount.and_then(|amount| Prior::from_columns(amount, prior_balance));
    Ok(Seen { balance, version, prior })
}
