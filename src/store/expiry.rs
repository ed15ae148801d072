//! Old idempotency keys go, in small batches, in the background.
//!
//! Each batch is its own short transaction on rows that nobody else has locked, so it never blocks a
//! change. A change whose key is just being removed waits for that batch at most.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

/// Keys removed in one transaction: a few milliseconds of work.
const BATCH: i64 = 500;

/// How often the oldest keys are looked at.
const PERIOD: Duration = Duration::from_secs(60);

/// Removes keys older than `age`, now and then for ever. Drop the future to stop it.
pub async fn run(pool: PgPool, age: Duration) {
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match remove_older_than(&pool, age).await {
            Ok(0) => {}
            Ok(removed) => debug!(removed, "idempotency keys expired"),
            Err(error) => warn!(%error, "cannot remove expired idempotency keys"),
        }
    }
}

/// Removes all keys older than `age`, batch by batch. Returns how many.
pub async fn remove_older_than(pool: &PgPool, age: Duration) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for sql in [
        "DELETE FROM idempotency_keys WHERE (user_id, key) IN ( \
             SELECT user_id, key FROM idempotency_keys \
             WHERE created_at < now() - make_interval(secs => $1) \
             ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        "DELETE FROM user_creation_keys WHERE key IN ( \
             SELECT key FROM user_creation_keys \
             WHERE created_at < now() - make_interval(secs => $1) \
             ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ] {
        loop {
            let batch = sqlx::query(sql)
                .bind(age.as_secs_f64())
                .bind(BATCH)
                .execute(pool)
                .await?
                .rows_affected();
            removed += batch;
            if batch == 0 {
                break;
            }
        }
    }
    Ok(removed)
}
