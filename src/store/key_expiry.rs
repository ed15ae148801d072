//! Removes old idempotency keys in small batches, in the background.
//!
//! Each batch is a short transaction of its own that skips locked rows, so it does not block changes. A
//! change whose key is being removed waits for that batch at most.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

use super::error::{Failure, sqlstate};
use super::session::Connector;
use crate::ledger::ChangeError;

/// Keys removed in one transaction: a few milliseconds of work.
const BATCH: i64 = 500;

/// How often old keys are removed.
const PERIOD: Duration = Duration::from_secs(60);

/// How long a round may take. The next one continues its work.
const ROUND_MAX: Duration = Duration::from_secs(60 * 60);

/// Removes keys older than `age` periodically, until the future is dropped.
pub async fn run(connector: Connector, age: Duration) {
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match round(&connector, age).await {
            Ok(0) => {}
            Ok(removed) => debug!(removed, "idempotency keys expired"),
            Err(error) => warn!(%error, "cannot remove expired idempotency keys"),
        }
    }
}

/// One round, on a session of its own.
async fn round(connector: &Connector, age: Duration) -> Result<u64, ChangeError> {
    let session = connector.open().await.map_err(|error| ChangeError::NotApplied(error.into()))?;
    let (removed, spent) = session
        .run(ROUND_MAX, |connection| {
            Box::pin(async move {
                remove_older_than(connection, age).await.map_err(Failure::before_commit)
            })
        })
        .await;
    if let Some(spent) = spent
        && let Some(session) = spent.recover().await
    {
        session.close().await;
    }
    Ok(removed?)
}

/// Removes all keys older than `age`, batch by batch. Returns their number.
///
/// # Errors
/// As the database says. The batches before stay committed.
pub async fn remove_older_than(
    connection: &mut PgConnection,
    age: Duration,
) -> Result<u64, sqlx::Error> {
    let removed = remove_unlocked(connection, age).await;
    match removed {
        // Where the tables are sharded, rows of several users cannot be locked.
        Err(error) if sqlstate(&error).as_deref() == Some("0A000") => {
            remove_without_locks(connection, age).await
        }
        removed => removed,
    }
}

/// Skips locked rows.
async fn remove_unlocked(connection: &mut PgConnection, age: Duration) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for sql in [
        r"
DELETE FROM idempotency_keys WHERE (user_id, key) IN (
    SELECT user_id, key FROM idempotency_keys
    WHERE created_at < now() - make_interval(secs => $1)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        r"
DELETE FROM user_creation_keys WHERE key IN (
    SELECT key FROM user_creation_keys
    WHERE created_at < now() - make_interval(secs => $1)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ] {
        loop {
            let query = sqlx::query(sql).bind(age.as_secs_f64()).bind(BATCH);
            let batch = query.execute(&mut *connection).await?.rows_affected();
            removed += batch;
            if batch == 0 {
                break;
            }
        }
    }
    Ok(removed)
}

/// Waits for locked rows, within the limits of a statement.
async fn remove_without_locks(
    connection: &mut PgConnection,
    age: Duration,
) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for sql in [
        "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1)",
        "DELETE FROM user_creation_keys WHERE created_at < now() - make_interval(secs => $1)",
    ] {
        let query = sqlx::query(sql).bind(age.as_secs_f64());
        removed += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(removed)
}
