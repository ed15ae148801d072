//! `plimsoll verify`: checks the database once and prints the report.

use std::io::{self, Write};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use super::database::{on_database, require_cluster};
use super::error::CommandError;
use super::printing::{Format, print};
use crate::config::Config;
use crate::verify::{self, Report};

/// Checks all invariants, prints the report, and returns whether all of them hold.
///
/// # Errors
/// When the check or the printing failed. Then nothing is known about the invariants.
pub async fn verify(
    config: &Config,
    format: Format,
    to: &mut impl Write,
) -> Result<bool, CommandError> {
    // A check must not create a database.
    require_cluster(&config.database)?;
    let report = on_database(config, async |options| check(options, config).await).await?;
    print(&report, &report, format, to).map_err(CommandError::Output)?;
    Ok(report.is_clean())
}

async fn check(options: PgConnectOptions, config: &Config) -> Result<Report, CommandError> {
    // Statements over all rows are slow by nature; the log need not quote them.
    let options = options.application_name("plimsoll verify").disable_statement_logging();
    let connecting = timeout(config.pool.connect, options.connect());
    let mut connection = match connecting.await {
        Ok(connected) => connected.map_err(CommandError::Connect)?,
        Err(_) => {
            return Err(CommandError::Connect(io::Error::from(io::ErrorKind::TimedOut).into()));
        }
    };
    let report = verify::verify(&mut connection).await.map_err(CommandError::checking)?;
    // The report is complete, so a failure to close the connection does not matter.
    let _ = connection.close().await;
    Ok(report)
}
