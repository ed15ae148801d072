//! How much the database holds, for the metrics: asked in the background, never by a scrape.
//!
//! No question takes longer the more there is: counts of whole tables are the database's own estimates,
//! and open holds are counted up to a limit, along an index that has only them.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::error::Failure;
use super::own_session::OwnSession;
use super::session::Connector;
use crate::ledger::ChangeError;
use crate::metrics::database::{Database, Sizes};

/// How often it is asked. Also how soon it is known that the database is away.
const PERIOD: Duration = Duration::from_secs(15);

/// How long all questions may take together. They cost the database some milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// Open holds are counted up to here: some ten milliseconds. Beyond it the count is an estimate.
const COUNTED_MAX: i64 = 100_000;

/// Along the indexes of open holds, even where a plan would rather read a table that is small so far. A
/// cluster that shards the tables needs plans of its own.
const SESSION: &str = "
SELECT set_config('enable_seqscan', 'off', false), set_config('statement_timeout', '2s', false)";

/// Publishes how much the database holds, until the future is dropped.
pub async fn run(connector: Connector, database: Database) {
    let mut session = OwnSession::new(connector, SESSION);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = read(&mut session).await;
        if let Err(error) = &found {
            // Requests that fail for the same reason have lines of their own.
            debug!(%error, "cannot ask the database how much it holds");
        }
        database.publish(found);
    }
}

async fn read(own: &mut OwnSession) -> Result<Sizes, ChangeError> {
    let session = timeout(LIMIT, own.take()).await;
    let session = session.map_err(|elapsed| ChangeError::NotApplied(elapsed.into()))??;
    let (sizes, spent) = session.run(LIMIT, |connection| Box::pin(sizes(connection))).await;
    own.give_back(spent).await;
    Ok(sizes?)
}

/// Reads how much there is.
///
/// # Errors
/// As the database says.
pub async fn sizes(connection: &mut PgConnection) -> Result<Sizes, Failure> {
    let failed = Failure::before_commit;
    let counted: i64 = sqlx::query_scalar(OPEN_HOLDS)
        .bind(COUNTED_MAX)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let oldest_expired_seconds: f64 =
        sqlx::query_scalar(OLDEST_EXPIRED).fetch_one(&mut *connection).await.map_err(failed)?;
    type Estimates = (i64, i64, i64, i64, String);
    let estimates: Estimates =
        sqlx::query_as(ESTIMATES).fetch_one(connection).await.map_err(failed)?;
    let (users, journal_rows, keys, open, version) = estimates;
    let open_holds = if counted < COUNTED_MAX { counted } else { counted.max(open) };
    Ok(Sizes { version, open_holds, oldest_expired_seconds, users, journal_rows, keys })
}

const OPEN_HOLDS: &str = r"
SELECT count(*) FROM (SELECT hold FROM holds WHERE state = 'open' LIMIT $1) AS counted";

/// By the index in order of expiry: one row, however many have expired.
const OLDEST_EXPIRED: &str = r"
SELECT coalesce(greatest(extract(epoch FROM statement_timestamp() - min(expires_at)), 0), 0)::float8
FROM holds WHERE state = 'open'";

/// The server's statistics count what was written since the table was last analysed, but forget all of
/// it in a crash. Its catalogue has the number as of that analysis, and for indexes nothing else does.
const ESTIMATES: &str = r"
WITH estimated AS (
    SELECT c.relname, greatest(pg_stat_get_live_tuples(c.oid), c.reltuples::bigint, 0) AS count
    FROM pg_class c
    WHERE c.oid IN (to_regclass('users'), to_regclass('balance_changes'),
        to_regclass('idempotency_keys'), to_regclass('holds_open'))
)
SELECT coalesce(max(count) FILTER (WHERE relname = 'users'), 0),
       coalesce(max(count) FILTER (WHERE relname = 'balance_changes'), 0),
       coalesce(max(count) FILTER (WHERE relname = 'idempotency_keys'), 0),
       coalesce(max(count) FILTER (WHERE relname = 'holds_open'), 0),
       current_setting('server_version')
FROM estimated";
