//! Sessions: database connections with time-outs.
//!
//! A session that is silent for longer than its limit is closed: a firewall that forgot it or a host
//! that vanished never answers. A session that has rested is checked before it is used. One whose
//! failure leaves its state in doubt is never used again, see [`Failure::costs_session`].
//!
//! The server watches its side as well. It sends keepalives (`tcp_keepalives_*`), bounds how long sent
//! data may stay unacknowledged (`tcp_user_timeout`) and checks during a statement that the client is
//! still connected (`client_connection_check_interval`). So when this process or its host vanishes, its
//! locks are gone within half a minute.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgTransactionManager};
use sqlx::{Connection, FromRow, PgConnection, TransactionManager};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::error::Failure;
use super::hosts::Hosts;

/// A boxed future that borrows for as long as it runs.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session that has rested for longer is checked first: it may have been closed, which TCP reports
/// only after a statement was sent. A busy one is not checked: the round trip costs a tenth of the
/// throughput of an exhausted account.
const REST_MAX: Duration = Duration::from_secs(1);

/// Of several hosts, another one may have taken over from a session's host. A write fails on a host that
/// became read-only, but a read does not, so even a busy session asks its host again after this time.
const HOST_KNOWN_MAX: Duration = Duration::from_secs(1);

/// The time-out of a check. It costs the server nothing, so a slower session is closed.
const PING_MAX: Duration = Duration::from_secs(1);

/// How long closing a session may take. After that the connection is dropped.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The time-outs of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// How long it may take to open, with TLS and authentication, and for each piece of work. Then it is
    /// closed, and the outcome of a change that was sent is unknown.
    pub answer: Duration,
    /// How long a statement waits for a locked row. Then its change waits without a session
    /// (`store/held.rs`), so that held rows do not take all sessions.
    pub lock_wait: Duration,
}

/// How much longer a patient request waits for a row.
const PATIENT_WAIT_FACTOR: u32 = 5;

impl SessionLimits {
    /// The wait for a row that keeps changing hands. The server's `lock_timeout` still ends it before the
    /// server ends the statement: a clean failure.
    pub fn patient_lock_wait(self) -> Duration {
        (self.lock_wait * PATIENT_WAIT_FACTOR).min(self.answer / 4)
    }
}

/// Waits for each row for at most so long, until the transaction ends.
///
/// # Errors
/// As the database says.
pub async fn set_lock_wait(
    connection: &mut PgConnection,
    wait: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(wait.as_millis().to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Opens sessions to one database. Clones share its configuration.
#[derive(Clone, Debug)]
pub struct Connector {
    hosts: Hosts,
    limits: SessionLimits,
}

impl Connector {
    /// Does not connect yet.
    pub fn new(hosts: impl Into<Hosts>, limits: SessionLimits) -> Self {
        Self { hosts: hosts.into().named("plimsoll"), limits }
    }

    /// The limits of each session.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// The hosts.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Opens a session with the limits of this service, on a host that accepts changes.
    ///
    /// # Errors
    /// As the database says, or [`io::ErrorKind::TimedOut`].
    pub async fn open(&self) -> Result<Session, sqlx::Error> {
        let opening = self.connect(|options| async move {
            let mut connection = PgConnection::connect_with(&options).await?;
            let state = set_limits(&mut connection, self.limits).await?;
            Ok((connection, state))
        });
        let connection = opening.await?;
        let now = Instant::now();
        Ok(Session { connection, used: now, asked: now })
    }

    /// Checks a session that has rested, and whether its host still accepts changes.
    ///
    /// # Errors
    /// The session has to be replaced. Nothing was sent.
    pub async fn check(&self, session: &mut Session) -> Result<(), sqlx::Error> {
        if self.hosts.count() > 1 && session.asked.elapsed() > HOST_KNOWN_MAX {
            self.accepts(session.host_state().await?)
        } else if session.used.elapsed() > REST_MAX {
            session.ping().await
        } else {
            Ok(())
        }
    }

    /// Opens a connection without limits, for long work that no request waits for.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_without_limits(&self) -> Result<PgConnection, sqlx::Error> {
        self.connect(|options| async move {
            let mut connection = PgConnection::connect_with(&options).await?;
            let state = lift_limits(&mut connection).await?;
            Ok((connection, state))
        })
        .await
    }

    async fn connect<F>(
        &self,
        attempt: impl Fn(PgConnectOptions) -> F,
    ) -> Result<PgConnection, sqlx::Error>
    where
        F: Future<Output = Result<(PgConnection, HostState), sqlx::Error>>,
    {
        let attempt = |options| {
            let connecting = attempt(options);
            async move {
                let (connection, state) = connecting.await?;
                self.accepts(state)?;
                Ok(connection)
            }
        };
        within(self.limits.answer, self.hosts.first(attempt, severity)).await
    }

    fn accepts(&self, state: HostState) -> Result<(), sqlx::Error> {
        if state.in_recovery || (self.hosts.count() > 1 && state.read_only) {
            return Err(takes_no_changes());
        }
        Ok(())
    }
}

/// What a session learns of its host: whether it is a standby, and whether it is read-only for
/// another reason.
#[derive(Clone, Copy, Debug, FromRow)]
struct HostState {
    in_recovery: bool,
    read_only: bool,
}

/// A standby may be behind its primary, so not even a read may be answered from there. A single host that
/// an administrator has made read-only still has the truth; of several, another one may have taken over.
fn takes_no_changes() -> sqlx::Error {
    // As while a server starts: it may be promoted.
    let reason = "the host is a standby or read-only, and takes no changes";
    io::Error::new(io::ErrorKind::ConnectionAborted, reason).into()
}

/// Of the failures of several hosts, what a host has answered says more than that one is unreachable.
fn severity(error: &sqlx::Error) -> u8 {
    match error {
        sqlx::Error::Database(_) => 2,
        sqlx::Error::Io(cause) if cause.kind() == io::ErrorKind::ConnectionAborted => 1,
        sqlx::Error::Io(_) => 0,
        // Such as a refusal of TLS, which lasts.
        _ => 3,
    }
}

/// A connection that may be used for the next piece of work.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    used: Instant,
    /// When the host said last that it accepts changes.
    asked: Instant,
}

impl Session {
    /// Runs `work` for at most `limit`. Returns its result, and the session if it may be used again
    /// after [`Spent::recover`].
    ///
    /// Dropping the future closes the session during its work, which the database then ends by itself.
    pub async fn run<T, W>(
        mut self,
        limit: Duration,
        work: W,
    ) -> (Result<T, Failure>, Option<Spent>)
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let result = timeout(limit, work(&mut self.connection)).await;
        self.after(result)
    }

    /// The connection, for work that borrows and so cannot use [`run`](Self::run). Pass its result to
    /// [`after`](Self::after).
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// The result of the work, and the session if it may be used again.
    pub fn after<T>(
        mut self,
        result: Result<Result<T, Failure>, Elapsed>,
    ) -> (Result<T, Failure>, Option<Spent>) {
        match result {
            Err(elapsed) => (Err(Failure::Unknown(elapsed.into())), None),
            Ok(Err(failure)) if failure.costs_session() => (Err(failure), None),
            Ok(result) => {
                self.used = Instant::now();
                (result, Some(Spent(self)))
            }
        }
    }

    /// Closes the session and notifies the server.
    pub async fn close(self) {
        // After an error the connection is dropped, which closes it as well.
        let _ = within(CLOSE_MAX, self.connection.close()).await;
    }

    async fn host_state(&mut self) -> Result<HostState, sqlx::Error> {
        let state = sqlx::query_as(
            r"
SELECT pg_is_in_recovery() AS in_recovery,
       current_setting('transaction_read_only') = 'on' AS read_only",
        );
        let state = within(PING_MAX, state.fetch_one(&mut self.connection)).await?;
        (self.used, self.asked) = (Instant::now(), Instant::now());
        Ok(state)
    }

    async fn ping(&mut self) -> Result<(), sqlx::Error> {
        within(PING_MAX, self.connection.ping()).await?;
        self.used = Instant::now();
        Ok(())
    }
}

/// A session right after its work. Dropping it closes the session.
#[derive(Debug)]
pub struct Spent(Session);

impl Spent {
    /// Finishes the rollback of a transaction that the work has dropped, which still holds its locks.
    /// Costs nothing otherwise. `None` if the session cannot be used again.
    pub async fn recover(self) -> Option<Session> {
        let Self(mut session) = self;
        let connection = &session.connection;
        if PgTransactionManager::get_transaction_depth(connection) > 0 {
            return None;
        }
        // The rollback is queued, but not sent.
        if connection.should_flush() && session.ping().await.is_err() {
            return None;
        }
        Some(session)
    }
}

/// Fails with [`io::ErrorKind::TimedOut`] after `limit`.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// PostgreSQL times out before the service does: its error is a clean "not applied" instead of an
/// "unknown". Durability does not depend on the server's default.
async fn set_limits(
    connection: &mut PgConnection,
    SessionLimits { answer, lock_wait }: SessionLimits,
) -> Result<HostState, sqlx::Error> {
    sqlx::query_as(
        r"
SELECT set_config('statement_timeout', $1, false),
       set_config('lock_timeout', $2, false),
       set_config('idle_in_transaction_session_timeout', $3, false),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
           WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('tcp_user_timeout', '25s', false),
       (SELECT set_config(name, '1s', false) FROM pg_settings
        WHERE name = 'client_connection_check_interval' AND version() LIKE '%linux%'),
       pg_is_in_recovery() AS in_recovery,
       current_setting('transaction_read_only') = 'on' AS read_only",
    )
    .bind((answer / 2).as_millis().to_string())
    .bind(lock_wait.as_millis().to_string())
    .bind(answer.as_millis().to_string())
    .persistent(false)
    .fetch_one(connection)
    .await
}

/// The role or the database may have other defaults. And when this process ends during a migration, the
/// server ends the migration as well, with its locks.
async fn lift_limits(connection: &mut PgConnection) -> Result<HostState, sqlx::Error> {
    sqlx::query_as(
        r"
SELECT set_config('statement_timeout', '0', false),
       set_config('lock_timeout', '0', false),
       set_config('idle_in_transaction_session_timeout', '0', false),
       (SELECT set_config(name, '1s', false) FROM pg_settings
        WHERE name = 'client_connection_check_interval' AND version() LIKE '%linux%'),
       pg_is_in_recovery() AS in_recovery,
       current_setting('transaction_read_only') = 'on' AS read_only",
    )
    .persistent(false)
    .fetch_one(connection)
    .await
}
