//! The schema: migrated at start, on a connection without the limits of requests.

use std::io;
use std::time::Duration;

use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::migrate::{MigrateError, Migrator};
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::error::sqlstate;
use super::migrating::StatementByStatement;
use super::session::Connector;
use super::users;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The pause between attempts to connect to a database that is starting.
const RETRY: Duration = Duration::from_millis(250);

/// The database is unavailable or unsuitable. Each message is one line.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It did not answer in time, or refused the service.
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(#[source] sqlx::Error),
    /// A migration failed, or the database has migrations that this version does not know.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[source] MigrateError),
    /// The first user could not be created.
    #[error("cannot seed the database: {0}")]
    Seed(#[source] sqlx::Error),
}

/// Migrates the schema and creates user 1 if it does not exist. Waits for at most `patience` for a
/// database that is starting. Several instances may run it at once: one migrates, and the others wait
/// for it without a time-out. Never changes an existing balance.
///
/// # Errors
/// A failed migration has changed nothing.
pub async fn prepare(connector: &Connector, patience: Duration) -> Result<(), StoreError> {
    let mut connection = connect(connector, patience).await?;
    let mut migrated = StatementByStatement(&mut connection);
    MIGRATIONS.run_direct(&mut migrated).await.map_err(StoreError::Migrate)?;
    users::seed(&mut connection).await.map_err(StoreError::Seed)?;
    warn_if_not_durable(&mut connection).await.map_err(StoreError::Connect)?;
    // All work is committed, so an error here does not matter.
    let _ = connection.close().await;
    Ok(())
}

async fn connect(connector: &Connector, patience: Duration) -> Result<PgConnection, StoreError> {
    let deadline = Instant::now() + patience;
    loop {
        match connector.open_without_limits().await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_starting(&error) && Instant::now() < deadline => {
                info!(%error, "the database does not answer yet");
                sleep(RETRY).await;
            }
            Err(error) => return Err(StoreError::Connect(error)),
        }
    }
}

/// Whether a starting database causes such an error: the port or the socket file does not exist yet,
/// the connection is closed at once, or the server says so. Other errors, such as a refusal of TLS,
/// are permanent.
fn is_starting(error: &sqlx::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        NotFound, TimedOut, UnexpectedEof,
    };
    match error {
        sqlx::Error::Io(cause) => matches!(
            cause.kind(),
            ConnectionAborted
                | ConnectionRefused
                | ConnectionReset
                | HostUnreachable
                | NetworkUnreachable
                | NotFound
                | TimedOut
                | UnexpectedEof
        ),
        _ => sqlstate(error).as_deref() == Some("57P03"), // cannot_connect_now
    }
}

async fn warn_if_not_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let off: Vec<String> = sqlx::query_scalar(
        r"
SELECT name FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'",
    )
    .fetch_all(connection)
    .await?;
    for setting in off {
        warn!(setting, "is off: a crash of the machine can lose acknowledged changes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_does_not_count_as_starting() {
        let io = |kind| sqlx::Error::Io(io::Error::from(kind));
        assert!(is_starting(&io(io::ErrorKind::ConnectionRefused)));
        assert!(is_starting(&io(io::ErrorKind::NotFound)));
        // For example a certificate that does not match.
        assert!(!is_starting(&io(io::ErrorKind::InvalidData)));
        assert!(!is_starting(&sqlx::Error::Tls("server does not support TLS".into())));
    }
}
