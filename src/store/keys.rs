//! Idempotency keys: the outcome of a change is kept with its key and answered again.
//!
//! Key, change and journal row commit together. What makes it exact is the primary key of
//! `idempotency_keys` alone: of two changes with the same key only one can commit. The other fails
//! with `unique_violation`, is rolled back in full, and finds the outcome when it is tried again.
//!
//! Where such an insert is part of a larger statement it returns a column that nobody reads: without
//! one, a cluster that shards the tables copies the rows to their shard and relays a used key as an
//! internal error (XX000) instead of as what it is.
//!
//! A statement that changes a balance locks the user's row before it writes a key, so that no two of
//! them can wait for each other in a circle. A refusal, or a read, writes its key alone.

use sqlx::PgConnection;

use super::error::Failure;
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
/// another attempt finds its outcome.
pub fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|answer| {
        answer.code().as_deref() == Some("23505") && may_be_of_a_key(answer.constraint())
    })
}

/// A cluster that shards the tables adds the number of the shard (`idempotency_keys_pkey_102025`),
/// or relays the error without a name. Taking a nameless one for a used key costs an attempt.
fn may_be_of_a_key(constraint: Option<&str>) -> bool {
    let Some(name) = constraint.filter(|name| !name.is_empty()) else { return true };
    let is_shard = |rest: &str| {
        rest.strip_prefix('_').is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    PRIMARY_KEYS
        .iter()
        .any(|key| name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || is_shard(rest)))
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
pub struct Loaded {
    /// The balance to decide on.
    pub balance: Balance,
    /// The version that goes with it.
    pub version: i64,
    /// The key was used before.
    pub prior: Option<Prior>,
}

/// Reads what there is to decide on, without a lock.
///
/// # Errors
/// As the database says; [`Failure::Race`] among them, at SERIALIZABLE.
pub async fn load(connection: &mut PgConnection, change: &Change) -> Result<Loaded, Failure> {
    match &change.key {
        None => {
            load_user(connection, change, "SELECT balance, version FROM users WHERE id = $1").await
        }
        Some(key) => {
            load_with_key(
                connection,
                change,
                key,
                "SELECT u.balance, u.version, k.amount, k.balance \
                 FROM users u LEFT JOIN idempotency_keys k ON k.user_id = u.id AND k.key = $2 \
                 WHERE u.id = $1",
            )
            .await
        }
    }
}

/// Reads what there is to decide on, and keeps the user's row locked until the transaction ends.
///
/// Where it had to wait for the lock, the balance is the newest, but the key is as the snapshot
/// before the wait had it; the primary key catches what was missed.
///
/// # Errors
/// As [`load`].
pub async fn load_and_lock(
    connection: &mut PgConnection,
    change: &Change,
) -> Result<Loaded, Failure> {
    match &change.key {
        None => {
            load_user(
                connection,
                change,
                "SELECT balance, version FROM users WHERE id = $1 FOR UPDATE",
            )
            .await
        }
        Some(key) => {
            load_with_key(
                connection,
                change,
                key,
                "SELECT u.balance, u.version, k.amount, k.balance \
                 FROM users u LEFT JOIN idempotency_keys k ON k.user_id = u.id AND k.key = $2 \
                 WHERE u.id = $1 FOR UPDATE OF u",
            )
            .await
        }
    }
}

/// Without a key there is no join: where the tables are sharded, one whose other side is unknown
/// when it is planned (`k.key = NULL`) is refused.
async fn load_user(
    connection: &mut PgConnection,
    change: &Change,
    sql: &'static str,
) -> Result<Loaded, Failure> {
    let row: Option<(Balance, i64)> = sqlx::query_as(sql)
        .bind(change.user.get())
        .fetch_optional(connection)
        .await
        .map_err(Failure::before_commit)?;
    let (balance, version) = row.ok_or(ChangeError::UserNotFound)?;
    Ok(Loaded { balance, version, prior: None })
}

async fn load_with_key(
    connection: &mut PgConnection,
    change: &Change,
    key: &Key,
    sql: &'static str,
) -> Result<Loaded, Failure> {
    let row: Option<(Balance, i64, Option<i64>, Option<Balance>)> = sqlx::query_as(sql)
        .bind(change.user.get())
        .bind(key.as_str())
        .fetch_optional(connection)
        .await
        .map_err(Failure::before_commit)?;
    let (balance, version, prior_amount, prior_balance) = row.ok_or(ChangeError::UserNotFound)?;
    let prior = prior_amount.and_then(|amount| Prior::from_columns(amount, prior_balance));
    Ok(Loaded { balance, version, prior })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_key_is_recognised_on_a_shard_and_without_a_name() {
        for name in [
            Some("idempotency_keys_pkey"),
            Some("user_creation_keys_pkey"),
            Some("idempotency_keys_pkey_102025"),
            Some(""),
            None,
        ] {
            assert!(may_be_of_a_key(name), "{name:?}");
        }
        for name in ["balance_changes_pkey", "idempotency_keys_pkey2", "idempotency_keys_pkey_x"] {
            assert!(!may_be_of_a_key(Some(name)), "{name}");
        }
    }
}
