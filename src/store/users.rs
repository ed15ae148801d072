//! Users: the seed, creating them, reading them.

use std::time::Duration;

use sqlx::PgConnection;

use super::error::Failure;
use super::retry::Policy;
use crate::ledger::{Balance, ChangeError, Key, UserId};

/// The opening balance of user 1, in minor units.
pub const SEED_BALANCE: Balance = 10_000;

/// Creates user 1 where there is no user 1 yet. Never touches one that exists.
pub async fn seed(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        r"
WITH created AS (
    INSERT INTO users (id, balance, held, version, changed_at)
    VALUES ($1, $2, 0, 1, statement_timestamp())
    ON CONFLICT (id) DO NOTHING
    RETURNING id, balance, version, changed_at
)
INSERT INTO balance_changes
       (user_id, version, kind, amount, held_amount, balance, held, created_at)
SELECT id, version, 'change', balance, 0, balance, 0, changed_at FROM created",
    )
    .bind(UserId::FIRST.get())
    .bind(SEED_BALANCE)
    .execute(connection)
    .await?;
    Ok(())
}

/// A user's row, of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct User {
    /// What can be spent, in minor units.
    pub balance: Balance,
    /// What is set aside by holds, in minor units.
    pub held: Balance,
    /// How many entries the user's journal has.
    pub version: i64,
}

/// Reads a user as of now, without a lock.
pub async fn read(connection: &mut PgConnection, user: UserId) -> Result<User, Failure> {
    let row: Option<User> =
        sqlx::query_as("SELECT balance, held, version FROM users WHERE id = $1")
            .bind(user.get())
            .fetch_optional(connection)
            .await
            .map_err(Failure::before_commit)?;
    Ok(row.ok_or(ChangeError::UserNotFound)?)
}

/// Only a key that a concurrent request used first is attempted again; the next attempt finds it.
pub(super) const POLICY: Policy = Policy {
    limit: Duration::from_secs(5),
    pause: Duration::from_millis(2),
    pause_max: Duration::from_millis(50),
};

/// A user that was created, now or earlier with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The new user's number.
    pub id: i64,
    /// The key was used before, and this is the user that it created.
    pub replayed: bool,
}

/// Creates a user with an opening balance, which is the first row of its journal. One statement.
///
/// The key's row commits with the user, and its primary key makes "at most once" true.
pub async fn create(
    connection: &mut PgConnection,
    opening: Balance,
    key: Option<&Key>,
) -> Result<Created, Failure> {
    let row: Option<(i64, Balance, bool)> = sqlx::query_as(
        r"
WITH stored AS MATERIALIZED (
    SELECT user_id, balance FROM user_creation_keys WHERE key = $2
), created AS (
    INSERT INTO users (balance, held, version, changed_at)
    SELECT $1, 0, CASE WHEN $1 > 0 THEN 1 ELSE 0 END, statement_timestamp()
    WHERE NOT EXISTS (SELECT FROM stored)
    RETURNING id, balance, version, changed_at
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at, key)
    SELECT id, version, 'change', balance, 0, balance, 0, changed_at, $2
    FROM created WHERE version > 0
), keyed AS (
    INSERT INTO user_creation_keys (key, balance, user_id)
    SELECT $2, balance, id FROM created WHERE $2 IS NOT NULL
    RETURNING user_id
)
SELECT id, balance, false FROM created
UNION ALL
SELECT user_id, balance, true FROM stored",
    )
    .bind(opening)
    .bind(key.map(Key::as_str))
    .fetch_optional(connection)
    .await
    .map_err(Failure::at_commit)?;
    let missing = || ChangeError::Internal("the new user's row is missing".into());
    let (id, balance, replayed) = row.ok_or_else(missing)?;
    if balance != opening {
        return Err(ChangeError::KeyReused.into());
    }
    Ok(Created { id, replayed })
}
