//! Everything that speaks to PostgreSQL, apart from the approaches' own statements.
//!
//! [`Store::perform`] is the only way to a connection. It keeps two promises on which the rest is
//! built: a client that hangs up never cancels database work, and no answer waits for ever.

pub mod error;
pub mod expiry;
pub mod idempotency;
pub mod journal;
pub mod private_cluster;
pub mod retry;
pub mod users;
pub mod verify;

use std::io;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::balance::{Balance, ChangeError, Key, UserId};
use error::{Sent, change_error};
use retry::{Failure, Policy, Tries};

/// A boxed future that borrows for as long as it runs.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How often a database that does not answer yet is tried again at start.
const CONNECT_RETRY: Duration = Duration::from_millis(250);

/// A connection that rested for longer may have been closed meanwhile, which on TCP shows only after
/// a statement was sent. So it is pinged before use. A busy one is not: the ping is a round trip, a
/// tenth of the throughput of an exhausted account.
const PING_AFTER_REST: Duration = Duration::from_secs(1);

/// A connection that takes longer than this to answer a ping is replaced.
const PING_MAX: Duration = Duration::from_secs(1);

/// How the pool is sized and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Connections, all opened at start.
    pub size: u32,
    /// How long a change may wait for a connection before it is refused as not applied.
    pub wait: Duration,
    /// How long a change may take once it has a connection before its outcome is called unknown.
    pub answer: Duration,
    /// How long to wait at start for a database that does not answer yet.
    pub connect: Duration,
}

/// The database did not come up, or is not what it has to be. One line each.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It did not answer in time, or refused the service.
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(#[source] sqlx::Error),
    /// A migration failed, or the database has migrations that this version does not know.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The first user could not be created.
    #[error("cannot seed the database: {0}")]
    Seed(#[source] sqlx::Error),
}

/// A pool of connections to one database. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    options: PgConnectOptions,
    answer_limit: Duration,
}

impl Store {
    /// Connects, waiting for a database that is still starting, and fills the pool.
    ///
    /// The pool is filled one by one and at once: a storm of connects on a Unix socket fails with
    /// `EAGAIN`, and the first burst must not pay for them.
    pub async fn open(options: PgConnectOptions, limits: PoolLimits) -> Result<Self, StoreError> {
        let options = options.application_name("plimsoll");
        let pool = PgPoolOptions::new()
            .max_connections(limits.size)
            .acquire_timeout(limits.wait)
            // In a burst everybody waits; a line for each would be the slowest part of it.
            .acquire_slow_threshold(limits.wait)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|connection, rest| {
                Box::pin(
                    async move { ping_if_rested(connection, rest.idle_for).await.map(|()| true) },
                )
            })
            .after_connect(move |connection, _| {
                Box::pin(set_session_limits(connection, limits.answer))
            })
            .connect_lazy_with(options.clone());
        let store = Self { pool, options, answer_limit: limits.answer };
        store.fill(limits).await.map_err(StoreError::Connect)?;
        Ok(store)
    }

    async fn fill(&self, limits: PoolLimits) -> Result<(), sqlx::Error> {
        let deadline = Instant::now() + limits.connect;
        let mut connections = Vec::new();
        while connections.len() < limits.size as usize {
            match self.pool.acquire().await {
                Ok(connection) => connections.push(connection),
                Err(error) if is_starting(&error) && Instant::now() < deadline => {
                    info!(%error, "the database does not answer yet");
                    sleep(CONNECT_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Brings the schema up to date and creates user 1 where there is none. Safe to run from
    /// several instances at once, and never changes a balance that exists.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        MIGRATIONS.run(&self.pool).await.map_err(StoreError::Migrate)?;
        users::seed(&self.pool).await.map_err(StoreError::Seed)?;
        self.warn_if_not_durable().await.map_err(StoreError::Connect)
    }

    async fn warn_if_not_durable(&self) -> Result<(), sqlx::Error> {
        let off: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') \
             AND setting = 'off'",
        )
        .fetch_all(&self.pool)
        .await?;
        for setting in off {
            warn!(setting, "is off: a crash of the machine can lose acknowledged changes");
        }
        Ok(())
    }

    /// Runs `work` on a connection of its own, in a task of its own.
    ///
    /// The returned future may be dropped at any time: the work goes on to its end. A statement
    /// that is cancelled half-way would leave its session inside an untracked transaction, where
    /// later commits look fine and are lost.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when no connection was free in time, and
    /// [`ChangeError::OutcomeUnknown`] when the work took too long; otherwise what `work` says.
    pub async fn perform<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ChangeError> + Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let (pool, limit) = (self.pool.clone(), self.answer_limit);
        tokio::spawn(async move {
            let mut connection = match pool.acquire().await {
                Ok(connection) => connection,
                Err(error) => {
                    // Whatever went wrong while a connection was made, nothing was sent.
                    let error = ChangeError::NotApplied(error.into());
                    return drop(answer.send(Err(error.into())));
                }
            };
            let mut work = work(&mut connection);
            match timeout(limit, &mut work).await {
                Ok(result) => drop(answer.send(result)),
                Err(elapsed) => {
                    let error = ChangeError::OutcomeUnknown(elapsed.into());
                    drop(answer.send(Err(error.into())));
                    // Nobody listens any more, but the session must come to rest before the pool
                    // may hand it on.
                    drop(work.await);
                }
            }
        });
        outcome.await.unwrap_or_else(|gone| Err(ChangeError::Internal(gone.into()).into()))
    }

    /// Performs `work` until it no longer loses a race. Each try has a connection of its own: none
    /// is held during a pause. `repeats` is called before each further try.
    ///
    /// # Errors
    /// As [`perform`](Self::perform), and what the last try failed with.
    pub async fn perform_tries<T, W>(
        &self,
        policy: Policy,
        repeats: impl Fn(),
        work: W,
    ) -> Result<T, ChangeError>
    where
        T: Send + 'static,
        W: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>
            + Clone
            + Send
            + 'static,
    {
        let mut tries = Tries::new(policy);
        loop {
            let result = self.perform(work.clone()).await;
            if let Some(end) = tries.settle(result).await {
                return end;
            }
            repeats();
        }
    }

    /// Performs what only reads: however it ends, it changed nothing, so nothing is unknown.
    async fn read<T, W>(&self, work: W) -> Result<T, ChangeError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, ChangeError>>
            + Send
            + 'static,
    {
        self.perform(work).await.map_err(|error| match error {
            ChangeError::OutcomeUnknown(cause) => ChangeError::NotApplied(cause),
            other => other,
        })
    }

    /// Whether the database answers: one round trip.
    pub async fn ping(&self) -> Result<(), ChangeError> {
        self.read(|connection| {
            Box::pin(async move {
                connection.ping().await.map_err(|error| change_error(error, Sent::NothingFinal))
            })
        })
        .await
    }

    /// The balance of a user as of now.
    pub async fn balance(&self, user: UserId) -> Result<Balance, ChangeError> {
        self.read(move |connection| Box::pin(users::balance(connection, user))).await
    }

    /// Creates a user; with a key, at most once.
    pub async fn create_user(
        &self,
        opening: Balance,
        key: Option<Key>,
    ) -> Result<users::Created, ChangeError> {
        self.perform_tries(
            users::POLICY,
            || {},
            move |connection| {
                let key = key.clone();
                Box::pin(async move { users::create(connection, opening, key.as_ref()).await })
            },
        )
        .await
    }

    /// At most `limit` journal rows of a user, newest first, with versions below `before`.
    pub async fn history(
        &self,
        user: UserId,
        before: i64,
        limit: i64,
    ) -> Result<Vec<journal::Entry>, ChangeError> {
        self.read(move |connection| {
            Box::pin(async move {
                let entries = journal::page(connection, user, before, limit).await?;
                if entries.is_empty() {
                    // No history, or no user?
                    users::balance(connection, user).await?;
                }
                Ok(entries)
            })
        })
        .await
    }

    /// A connection beside the pool, with the same limits, for whoever needs one of its own.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        set_session_limits(&mut connection, self.answer_limit).await?;
        Ok(connection)
    }

    /// How long a change may take once the database has it.
    pub fn answer_limit(&self) -> Duration {
        self.answer_limit
    }

    /// The pool itself, for statements outside the way of a request.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Waits for running work, then closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Pings a connection that rested for long.
///
/// # Errors
/// It has to be replaced.
pub async fn ping_if_rested(
    connection: &mut PgConnection,
    rested: Duration,
) -> Result<(), sqlx::Error> {
    if rested <= PING_AFTER_REST {
        return Ok(());
    }
    let answered = timeout(PING_MAX, connection.ping()).await;
    answered.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// PostgreSQL itself gives up what takes too long: an error, and so a clean "not applied", before
/// the service would have to say "unknown". Durability is not left to the server's default.
async fn set_session_limits(
    connection: &mut PgConnection,
    answer: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, false), \
                set_config('idle_in_transaction_session_timeout', $2, false), \
                set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
                    WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)",
    )
    .bind((answer / 2).as_millis().to_string())
    .bind(answer.as_millis().to_string())
    .persistent(false)
    .execute(connection)
    .await?;
    Ok(())
}

/// Errors that a database shows while it comes up.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        _ => matches!(error::sqlstate(error).as_deref(), Some("57P03")),
    }
}
