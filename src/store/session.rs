//! Sessions: connections to the database that are never awaited for ever.
//!
//! A session that was silent for longer than its limit is closed, not waited for: a firewall that
//! forgot it or a host that vanished never answers. One that rested is asked whether it is still
//! there before it is used. And one whose failure leaves its state in doubt is never used again,
//! see [`Failure::costs_session`].
//!
//! The server is told to watch its side as well. It probes the connection (`tcp_keepalives_*`),
//! bounds how long sent data may stay unacknowledged (`tcp_user_timeout`) and looks during a
//! statement whether the client is still there (`client_connection_check_interval`). So when this
//! process or its host vanishes, its locks are gone within half a minute.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgTransactionManager};
use sqlx::{Connection, PgConnection, TransactionManager};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use super::error::Failure;

/// A boxed future that borrows for as long as it runs.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session that rested for longer may have been closed meanwhile, which on TCP shows only after a
/// statement was sent. So it is asked first. A busy one is not: the question is a round trip, a
/// tenth of the throughput of an exhausted account.
const REST_MAX: Duration = Duration::from_secs(1);

/// A session that takes longer than this to answer a question that costs nothing is closed.
const PING_MAX: Duration = Duration::from_secs(1);

/// How long the end of a session may take; a server that does not take it is left alone.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// How long a session may take.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// How long it may be silent before it is given up: for the opening, TLS and authentication
    /// included, and for each piece of work. The outcome of a change that was sent is unknown then.
    pub answer: Duration,
    /// How long a statement waits for a row that somebody else has locked. Then its change waits
    /// apart, without a session (`store/held.rs`), so that held rows do not take all sessions.
    pub lock_wait: Duration,
}

/// Opens sessions to one database. Clones share its configuration.
#[derive(Clone, Debug)]
pub struct Connector {
    options: Arc<PgConnectOptions>,
    limits: SessionLimits,
}

impl Connector {
    /// Opens nothing yet.
    pub fn new(options: PgConnectOptions, limits: SessionLimits) -> Self {
        Self { options: Arc::new(options.application_name("plimsoll")), limits }
    }

    /// The limits of each session.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Opens a session with the limits of this service.
    ///
    /// # Errors
    /// As the database says, or [`io::ErrorKind::TimedOut`].
    pub async fn open(&self) -> Result<Session, sqlx::Error> {
        within(self.limits.answer, async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            set_limits(&mut connection, self.limits).await?;
            Ok(Session { connection, used: Instant::now() })
        })
        .await
    }

    /// A bare connection without any limit, for what may take long and is no request.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_without_limits(&self) -> Result<PgConnection, sqlx::Error> {
        within(self.limits.answer, async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            // The defaults, unless the role or the database has others.
            sqlx::query(
                "SELECT set_config('statement_timeout', '0', false), \
                        set_config('lock_timeout', '0', false), \
                        set_config('idle_in_transaction_session_timeout', '0', false)",
            )
            .persistent(false)
            .execute(&mut connection)
            .await?;
            Ok(connection)
        })
        .await
    }
}

/// A connection that may be used for the next piece of work.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    used: Instant,
}

impl Session {
    /// Makes sure that it is still there, where it rested.
    ///
    /// # Errors
    /// It has to be replaced; nothing was sent.
    pub async fn check(&mut self) -> Result<(), sqlx::Error> {
        if self.used.elapsed() <= REST_MAX {
            return Ok(());
        }
        self.ping().await
    }

    /// Runs `work` for `limit` at most. Returns the session as well where it may be used again,
    /// after [`Spent::recover`]; dropping it closes it.
    ///
    /// Dropping the future closes the session in the middle of its work, which the database then
    /// ends by itself.
    pub async fn run<T, W>(
        mut self,
        limit: Duration,
        work: W,
    ) -> (Result<T, Failure>, Option<Spent>)
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let ended = timeout(limit, work(&mut self.connection)).await;
        self.after(ended)
    }

    /// The connection, for work whose end is passed on to [`after`](Self::after): what [`run`]
    /// does, for work that borrows.
    ///
    /// [`run`]: Self::run
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// The end of the work, and the session where it may be used again.
    pub fn after<T>(
        mut self,
        ended: Result<Result<T, Failure>, Elapsed>,
    ) -> (Result<T, Failure>, Option<Spent>) {
        match ended {
            Err(elapsed) => (Err(Failure::Unknown(elapsed.into())), None),
            Ok(Err(failure)) if failure.costs_session() => (Err(failure), None),
            Ok(result) => {
                self.used = Instant::now();
                (result, Some(Spent(self)))
            }
        }
    }

    /// Says goodbye to the server, so that it need not find out.
    pub async fn close(self) {
        // A connection that does not close in order is closed all the same.
        let _ = within(CLOSE_MAX, self.connection.close()).await;
    }

    async fn ping(&mut self) -> Result<(), sqlx::Error> {
        within(PING_MAX, self.connection.ping()).await?;
        self.used = Instant::now();
        Ok(())
    }
}

/// A session right after its work.
#[derive(Debug)]
pub struct Spent(Session);

impl Spent {
    /// Ends what the work has left open, a transaction that failed half-way: until then it holds
    /// its locks. Costs nothing where nothing is open. `None` where the session is of no more use.
    pub async fn recover(self) -> Option<Session> {
        let Self(mut session) = self;
        let connection = &session.connection;
        // A transaction that was dropped has its rollback queued, but not sent.
        let is_open = PgTransactionManager::get_transaction_depth(connection) > 0;
        if is_open {
            return None;
        }
        if connection.should_flush() && session.ping().await.is_err() {
            return None;
        }
        Some(session)
    }
}

/// Runs something of the database's within a time.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// PostgreSQL itself gives up what takes too long: an error, and so a clean "not applied", before
/// the service would have to say "unknown". Durability is not left to the server's default.
async fn set_limits(
    connection: &mut PgConnection,
    SessionLimits { answer, lock_wait }: SessionLimits,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, false), \
                set_config('lock_timeout', $2, false), \
                set_config('idle_in_transaction_session_timeout', $3, false), \
                set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
                    WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false), \
                set_config('tcp_keepalives_idle', '10', false), \
                set_config('tcp_keepalives_interval', '5', false), \
                set_config('tcp_keepalives_count', '3', false), \
                set_config('tcp_user_timeout', '25s', false), \
                (SELECT set_config(name, '1s', false) FROM pg_settings \
                 WHERE name = 'client_connection_check_interval' AND version() LIKE '%linux%')",
    )
    .bind((answer / 2).as_millis().to_string())
    .bind(lock_wait.as_millis().to_string())
    .bind(answer.as_millis().to_string())
    .persistent(false)
    .execute(connection)
    .await?;
    Ok(())
}
