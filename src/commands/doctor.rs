//! `plimsoll doctor`: examines database and machine once, and prints the report.

use std::io::{self, Write};

use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Duration, timeout};

use super::database::{on_database, require_cluster};
use super::error::CommandError;
use super::printing::{Format, print};
use crate::config::Config;
use crate::doctor::{self, Report, Status, Subject};
use crate::store::session::Connector;

/// The time limit for all checks. They take as long as some fifty commits.
const LIMIT: Duration = Duration::from_secs(60);

/// Examines the database and this machine, prints the report, and returns whether nothing fails.
///
/// # Errors
/// When the database could not be examined, or the report not be printed.
pub async fn doctor(
    config: &Config,
    instances: u32,
    format: Format,
    to: &mut impl Write,
) -> Result<bool, CommandError> {
    // A look must not create a database.
    require_cluster(&config.database)?;
    let examining = on_database(config, async |options| examine(config, options, instances).await);
    let report = examining.await?;
    let document = serde_json::json!({ "verdict": report.status(), "findings": report.findings });
    print(&report, &document, format, to).map_err(CommandError::Output)?;
    Ok(report.status() < Status::Fail)
}

async fn examine(
    config: &Config,
    options: PgConnectOptions,
    instances: u32,
) -> Result<Report, CommandError> {
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut).into();
    let connector = Connector::new(options.clone(), config.pool.session);
    let connecting = timeout(config.pool.connect, connector.open_without_limits());
    let mut connection =
        connecting.await.unwrap_or_else(|_| Err(timed_out())).map_err(CommandError::Connect)?;
    let subject = Subject { config, options: &options, connection: &mut connection, instances };
    let examined = timeout(LIMIT, doctor::examine(subject)).await;
    let report = examined.unwrap_or_else(|_| Err(timed_out())).map_err(CommandError::BrokenOff)?;
    // The report is complete, so a failure to close the connection does not matter.
    let _ = connection.close().await;
    Ok(report)
}
