//! Waits at start for a database that does not accept connections yet.

use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::error::sqlstate;
use super::session::Connector;

/// The pause between attempts.
const RETRY: Duration = Duration::from_millis(250);

/// When the first line is logged. A database that is up has answered by then.
const FIRST_LINE: Duration = Duration::from_millis(500);

/// The pause between further lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Why there is no connection. One line each.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The database refused the service, and waiting does not mend that, such as a wrong password.
    #[error("cannot connect to PostgreSQL: {0}")]
    Refused(#[source] sqlx::Error),
    /// It did not accept a connection in time.
    #[error(
        "cannot connect to PostgreSQL at {address} within {seconds} seconds \
         (CONNECT_TIMEOUT_SECS): {reason}"
    )]
    NoAnswer {
        /// Its host and port, or its socket.
        address: String,
        /// The time limit.
        seconds: u64,
        /// The error of the last attempt.
        reason: String,
    },
}

/// The reason of the last failed attempt.
type LastReason = Mutex<Option<sqlx::Error>>;

/// Attempts to connect for at most `patience`, and logs that it waits.
///
/// # Errors
/// [`ConnectError::NoAnswer`] when the time is up; [`ConnectError::Refused`] at once.
pub(super) async fn connect(
    connector: &Connector,
    patience: Duration,
) -> Result<PgConnection, ConnectError> {
    let reason = LastReason::default();
    tokio::select! {
        // The first branch wins when the last attempt succeeds as the time is up.
        biased;
        connected = attempt(connector, &reason) => connected.map_err(ConnectError::Refused),
        () = sleep(patience) => Err(ConnectError::NoAnswer {
            address: connector.hosts().addresses(),
            seconds: patience.as_secs(),
            reason: text_of(&reason),
        }),
        never = log(connector, &reason) => match never {},
    }
}

async fn attempt(connector: &Connector, reason: &LastReason) -> Result<PgConnection, sqlx::Error> {
    loop {
        match connector.open_without_limits().await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_starting(&error) || is_unresolved(connector, &error).await => {
                *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            Err(error) => return Err(error),
        }
        sleep(RETRY).await;
    }
}

async fn log(connector: &Connector, reason: &LastReason) -> Infallible {
    let (address, began) = (connector.hosts().addresses(), Instant::now());
    sleep(FIRST_LINE).await;
    loop {
        let waited_secs = began.elapsed().as_secs();
        warn!(address, waited_secs, reason = text_of(reason), "waiting for the database");
        sleep(LINE_EVERY).await;
    }
}

fn text_of(reason: &LastReason) -> String {
    match &*reason.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => error.to_string(),
        None => "no answer yet".to_owned(),
    }
}

/// Whether a starting database causes such an error: the port or the socket file does not exist yet,
/// the connection is closed at once, or the server says so, or has no free place yet. Other errors, such
/// as a refusal of TLS, are permanent.
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
        // cannot_connect_now, too_many_connections
        _ => matches!(sqlstate(error).as_deref(), Some("57P03" | "53300")),
    }
}

/// Whether the host's name cannot be resolved. Between containers, a name is known only when its container
/// runs. The standard library has no kind for this error, so the name is looked up again.
async fn is_unresolved(connector: &Connector, error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_)) && !connector.hosts().resolve().await
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
