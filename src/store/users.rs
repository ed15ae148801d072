//! Users: the seed, creating them, reading their balance.

use std::time::Duration;

use sqlx::PgConnection;

use super::error::Failure;
use super::retry::Policy;
use crate::balance::{Balance, ChangeError, Key, UserId};

/// The opening balance of user 1, in minor units.
pub const SEED_BALANCE: Balance = 10_000;

/// Creates user 1 where there is no user 1 yet. Never touches one that exists.
pub async fn seed(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH created AS ( \
             INSERT INTO users (id, balance, version) VALUES ($1, $2, 1) \
             ON CONFLICT (id) DO NOTHING \
             RETURNING id, balance, version \
         ) \
         INSERT INTO balance_changes (user_id, version, amount, balance) \
         SELECT id, version, balance, balance FROM created",
    )
    .bind(UserId::FIRST.get())
    .bind(SEED_BALANCE)
    .execute(connection)
    .await?;
    Ok(())
}

/// The balance as of now. Waits for nobody.
pub async fn balance(connection: &mut PgConnection, user: UserId) -> Result<Balance, Failure> {
    let balance: Option<Balance> = sqlx::query_scalar("SELECT balance FROM users WHERE id = $1")
        .bind(user.get())
        .fetch_optional(connection)
        .await
        .map_err(Failure::before_commit)?;
    Ok(balance.ok_or(ChangeError::UserNotFound)?)
}

/// Only a key that somebody else used in the meantime is attempted again, and that is then found.
pub(super) const POLICY: Policy = Policy {
    limit: Duration::from_secs(5),
    pause: Duration::from_millis(2),
    pause_max: Duration::from_millis(50),
};

/// A user as it was created, now or earlier with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The new user's number.
    pub id: i64,
    /// The key was used before, and this is the user that came of it.
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
        "WITH prior AS MATERIALIZED ( \
             SELECT user_id, balance FROM user_creation_keys WHERE key = $2 \
         ), created AS ( \
             INSERT INTO users (balance, version) \
             SELECT $1, CASE WHEN $1 > 0 THEN 1 ELSE 0 END WHERE NOT EXISTS (SELECT FROM prior) \
             RETURNING id, balance, version \
         ), journaled AS ( \
             INSERT INTO balance_changes (user_id, version, amount, balance, key) \
             SELECT id, version, balance, balance, $2 FROM created WHERE version > 0 \
         ), kept AS ( \
             INSERT INTO user_creation_keys (key, balance, user_id) \
             SELECT $2, balance, id FROM created WHERE $2 IS NOT NULL \
             RETURNING user_id \
         ) \
         SELECT id, balance, false FROM created UNION ALL SELECT user_id, balance, true FROM prior",
    )
    .bind(opening)
    .bind(key.map(Key::as_str))
    .fetch_optional(connection)
    .await
    .map_err(Failure::at_commit)?;
    let gone = || ChangeError::Internal("the new user's row is missing".into());
    let (id, balance, replayed) = row.ok_or_else(gone)?;
    if balance != opening {
        return Err(ChangeError::KeyReused.into());
    }
    Ok(Created { id, replayed })
}
