//! The look behind the answers: the database of the service, where it is given.

use std::time::Duration;

use plimsoll::verify::{Report, verify};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::timeout;

use crate::failure::Failure;

/// One connection to the database, for the whole run.
pub(crate) struct Database {
    connection: PgConnection,
    /// For connecting, and for each look.
    limit: Duration,
}

impl Database {
    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Database`].
    pub(crate) async fn reach(
        options: &PgConnectOptions,
        limit: Duration,
    ) -> Result<Self, Failure> {
        // A check of everything is a slow statement by nature: nothing to warn of.
        let options =
            options.clone().application_name("concurrency-tester").disable_statement_logging();
        let connection = within(limit, options.connect()).await?;
        Ok(Self { connection, limit })
    }

    /// Makes sure that it is the database of the service: the balance that was just set is there.
    /// A check of some other database would pass, and say nothing.
    ///
    /// # Errors
    /// [`Failure::OtherDatabase`] when it is not there.
    pub(crate) async fn expect_balance(&mut self, user: i64, balance: i64) -> Result<(), Failure> {
        let query = sqlx::query_scalar("SELECT balance FROM users WHERE id = $1").bind(user);
        let found: Option<i64> =
            within(self.limit, query.fetch_optional(&mut self.connection)).await?;
        match found {
            Some(found) if found == balance => Ok(()),
            _ => Err(Failure::OtherDatabase { user, balance }),
        }
    }

    /// Checks everything, of all users, as `plimsoll verify` does.
    pub(crate) async fn verify(&mut self) -> Result<Report, Failure> {
        // Boxed: it is large, and rare.
        within(self.limit, Box::pin(verify(&mut self.connection))).await
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(Failure::Database),
        Err(_) => Err(Failure::DatabaseTooSlow { limit }),
    }
}
