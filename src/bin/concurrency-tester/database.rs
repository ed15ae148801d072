//! Checks the database of the service, if its URL is given.

use std::time::Duration;

use plimsoll::verify::{Report, verify};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::timeout;

use crate::run_error::RunError;

/// One connection to the database, for the whole run.
pub(crate) struct Database {
    connection: PgConnection,
    /// The time-out for connecting, and for each query.
    limit: Duration,
}

impl Database {
    /// Connects.
    ///
    /// # Errors
    /// [`RunError::Database`], [`RunError::DatabaseTooSlow`].
    pub(crate) async fn connect(
        options: &PgConnectOptions,
        limit: Duration,
    ) -> Result<Self, RunError> {
        // Statements that check all rows are slow by nature: sqlx must not warn about them.
        let options =
            options.clone().application_name("concurrency-tester").disable_statement_logging();
        let connection = within(limit, options.connect()).await?;
        Ok(Self { connection, limit })
    }

    /// Makes sure that this is the service's database: it must have the balance that was just set.
    /// Without this check, `verify` of some other database would pass and prove nothing.
    ///
    /// # Errors
    /// [`RunError::OtherDatabase`] if the balance is another one or missing.
    pub(crate) async fn expect_balance(&mut self, user: i64, balance: i64) -> Result<(), RunError> {
        let query = sqlx::query_scalar("SELECT balance FROM users WHERE id = $1").bind(user);
        let found: Option<i64> =
            within(self.limit, query.fetch_optional(&mut self.connection)).await?;
        match found {
            Some(found) if found == balance => Ok(()),
            _ => Err(RunError::OtherDatabase { user, balance }),
        }
    }

    /// As [`Database::expect_balance`], for a user that was created with this balance and used since.
    ///
    /// # Errors
    /// [`RunError::OtherDatabase`] if its first entry is another one or missing.
    pub(crate) async fn expect_opening(&mut self, user: i64, balance: i64) -> Result<(), RunError> {
        const FIRST: &str = "SELECT amount FROM balance_changes WHERE user_id = $1 AND version = 1";
        let query = sqlx::query_scalar(FIRST).bind(user);
        let found: Option<i64> =
            within(self.limit, query.fetch_optional(&mut self.connection)).await?;
        match found {
            Some(found) if found == balance => Ok(()),
            _ => Err(RunError::OtherDatabase { user, balance }),
        }
    }

    /// Checks the data of all users, as `plimsoll verify` does.
    pub(crate) async fn verify(&mut self) -> Result<Report, RunError> {
        // Boxed because the future is large and rarely needed.
        within(self.limit, Box::pin(verify(&mut self.connection))).await
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, RunError> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(RunError::Database),
        Err(_) => Err(RunError::DatabaseTooSlow { limit }),
    }
}
