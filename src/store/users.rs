//! Users: the seed, and reading a balance.

use sqlx::{PgConnection, PgPool};

use super::error::{Sent, change_error};
use crate::balance::{Balance, ChangeError, UserId};

/// The opening balance of user 1, in minor units.
pub const SEED_BALANCE: Balance = 10_000;

/// Creates user 1 where there is no user 1 yet. Never touches one that exists.
pub async fn seed(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO users (id, balance) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
        .bind(UserId::FIRST.get())
        .bind(SEED_BALANCE)
        .execute(pool)
        .await?;
    Ok(())
}

/// The balance as of now. Waits for nobody.
pub async fn balance(connection: &mut PgConnection, user: UserId) -> Result<Balance, ChangeError> {
    sqlx::query_scalar("SELECT balance FROM users WHERE id = $1")
        .bind(user.get())
        .fetch_optional(connection)
        .await
        .map_err(|error| change_error(error, Sent::NothingFinal))?
        .ok_or(ChangeError::UserNotFound)
}
