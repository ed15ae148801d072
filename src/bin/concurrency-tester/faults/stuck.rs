//! Looks for sessions that are stuck after the last fault.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::error::FaultError;

/// Nothing that the service does takes longer once nobody asks it for anything.
const STUCK_AFTER: Duration = Duration::from_secs(10);

const POLL_EVERY: Duration = Duration::from_millis(100);

/// Sessions of the service inside of a transaction or statement, and those that wait for a lock. Asked for
/// again and again: the clocks of a round may have been set, so that no time of the server says how long.
const BUSY: &str = "
    SELECT format('session %s, %s, waits for %s %s: %s', pid, state, coalesce(wait_event_type, 'nothing'),
                  coalesce(wait_event, ''), left(query, 80))
    FROM pg_stat_activity
    WHERE application_name = 'plimsoll' AND backend_type = 'client backend'
      AND (xact_start IS NOT NULL
           OR EXISTS (SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid AND NOT granted))
    ORDER BY pid, xact_start";

/// Returns the sessions that are still in the same transaction when the time is up. The load has ended.
pub(crate) async fn stuck_sessions(admin: &mut PgConnection) -> Result<Vec<String>, FaultError> {
    let give_up = Instant::now() + STUCK_AFTER;
    loop {
        let busy: Vec<String> = sqlx::query_scalar(BUSY).fetch_all(&mut *admin).await?;
        if busy.is_empty() || Instant::now() >= give_up {
            return Ok(busy);
        }
        sleep(POLL_EVERY).await;
    }
}
