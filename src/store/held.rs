//! Users whose row is held: their changes wait without a session.
//!
//! A row that stays locked for longer than the lock time-out of a statement is *held*: by an open
//! `psql`, a job that forgot to commit, a session of a host that vanished. Each further change of that
//! user would take a session and wait on it, until none is left for other users. So the first time-out
//! marks the user. Changes of a marked user wait for the end of the mark, for at most [`WAIT_MAX`] from
//! their first failure, and are then refused as not applied.
//!
//! One task per process probes the rows of all marked users ten times a second, in one statement that
//! waits for no lock. It removes the mark when the row is free. A row that keeps changing hands is not
//! held, only busy: if the version has changed since the last probe, the mark is removed as well.
//!
//! Exactness does not depend on marks. A wrong mark costs a wait or a session.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::error::{Failure, sqlstate};
use super::sessions::Sessions;
use crate::ledger::{ChangeError, UserId};

/// How long a change waits for a held row, from its first failure on. With the time before and after,
/// its answer takes five seconds.
pub const WAIT_MAX: Duration = Duration::from_millis(4_500);

/// The pause before the first probe: short, since most often the other transaction was only slow.
pub const PROBE_FIRST: Duration = Duration::from_millis(20);

/// The pause before each further probe.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// A mark without waiting changes is removed after this time. A row that is free is found much sooner.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The most rows in one probe.
pub const PROBE_ROWS_MAX: usize = 200;

/// A probed user's row. A user without one does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Probed {
    /// The user's number.
    pub id: i64,
    /// Counts the changes of the row.
    pub version: i64,
    /// Whether it was unlocked.
    pub is_free: bool,
}

/// Finds out which of the rows are locked, without waiting. Its own locks end with the statement.
///
/// # Errors
/// As the database says.
pub async fn probe(
    connection: &mut PgConnection,
    users: &[UserId],
) -> Result<Vec<Probed>, sqlx::Error> {
    let all = probe_all(connection, users).await;
    if !all.as_ref().is_err_and(|error| sqlstate(error).as_deref() == Some("0A000")) {
        return all.map(without_copies);
    }
    // Where the tables are sharded, rows are locked one user at a time.
    let mut rows = Vec::with_capacity(users.len());
    for user in users {
        rows.extend(probe_one(connection, *user).await?);
    }
    Ok(rows)
}

/// A free row comes twice, and once as locked. To leave that one out in the statement would compare each
/// row with each other one, since its session may have no hash joins.
fn without_copies(rows: Vec<Probed>) -> Vec<Probed> {
    let free: HashSet<i64> = rows.iter().filter(|row| row.is_free).map(|row| row.id).collect();
    rows.into_iter().filter(|row| row.is_free || !free.contains(&row.id)).collect()
}

async fn probe_all(
    connection: &mut PgConnection,
    users: &[UserId],
) -> Result<Vec<Probed>, sqlx::Error> {
    let ids: Vec<i64> = users.iter().map(|user| user.get()).collect();
    // Locking a row is a write. Its commit would wait for the disk and for a standby without this.
    sqlx::query_as(
        r"
WITH no_flush AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), free AS MATERIALIZED (
    SELECT id, version FROM users WHERE id = ANY ($1) FOR UPDATE SKIP LOCKED
)
SELECT id, version, true AS is_free FROM no_flush CROSS JOIN free
UNION ALL
SELECT id, version, false FROM users WHERE id = ANY ($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
}

async fn probe_one(
    connection: &mut PgConnection,
    user: UserId,
) -> Result<Option<Probed>, sqlx::Error> {
    let free: Option<Probed> = sqlx::query_as(
        "SELECT id, version, true AS is_free FROM users WHERE id = $1 FOR UPDATE SKIP LOCKED",
    )
    .bind(user.get())
    .fetch_optional(&mut *connection)
    .await?;
    if free.is_some() {
        return Ok(free);
    }
    sqlx::query_as("SELECT id, version, false AS is_free FROM users WHERE id = $1")
        .bind(user.get())
        .fetch_optional(connection)
        .await
}

/// The marked users. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct HeldUsers(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// The number of marks, readable without the lock: nearly always zero.
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_user: HashMap<UserId, Mark>,
    /// Whether a task probes them.
    is_watched: bool,
}

#[derive(Debug)]
struct Mark {
    since: Instant,
    /// The version at the last probe.
    version: Option<i64>,
    /// Dropped with the mark, which wakes the waiting changes.
    end: watch::Sender<()>,
}

/// The wait of one change for its user's row.
#[derive(Debug)]
pub struct RowWait {
    arrived: Instant,
    /// When its own wait for the row first timed out.
    failed: Option<Instant>,
}

impl RowWait {
    /// For a change that arrives now.
    pub fn begin() -> Self {
        Self { arrived: Instant::now(), failed: None }
    }

    /// The time since the change arrived.
    pub fn elapsed(&self) -> Duration {
        self.arrived.elapsed()
    }

    /// The deadline for a mark that was set at that time. It counts from the change's own first failure,
    /// not from each mark. A change that did not fail itself has the deadline of the change that set
    /// the mark, so changes that queue behind each other are answered at the same time.
    fn deadline(&self, marked: Instant) -> Instant {
        self.failed.unwrap_or_else(|| marked.max(self.arrived)) + WAIT_MAX
    }
}

impl HeldUsers {
    /// Waits while the user is marked.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] at the deadline.
    pub async fn wait_while_marked(&self, user: UserId, wait: &RowWait) -> Result<(), ChangeError> {
        while let Some((since, mut end)) = self.mark_of(user) {
            if timeout_at(wait.deadline(since), end.changed()).await.is_err() {
                let cause = "somebody else keeps the user's row locked";
                return Err(ChangeError::NotApplied(cause.into()));
            }
        }
        Ok(())
    }

    /// Whether the user is marked.
    pub fn is_marked(&self, user: UserId) -> bool {
        self.mark_of(user).is_some()
    }

    /// Marks a user after a change has timed out on its row. The rows are probed through `reads`.
    pub fn mark(&self, user: UserId, reads: &Sessions, wait: &mut RowWait) {
        let now = Instant::now();
        wait.failed.get_or_insert(now);
        let is_watched = {
            let mut state = self.lock();
            state.by_user.entry(user).or_insert_with(|| {
                self.0.count.fetch_add(1, Ordering::Release);
                Mark { since: now, version: None, end: watch::Sender::new(()) }
            });
            std::mem::replace(&mut state.is_watched, true)
        };
        if !is_watched {
            let (held, sessions) = (self.clone(), reads.clone());
            reads.spawn(async move { held.watch(&sessions).await });
        }
    }

    fn mark_of(&self, user: UserId) -> Option<(Instant, watch::Receiver<()>)> {
        if self.0.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lock().by_user.get(&user).map(|mark| (mark.since, mark.end.subscribe()))
    }

    /// Probes the rows until no user is marked.
    async fn watch(&self, reads: &Sessions) {
        let mut pause = PROBE_FIRST;
        loop {
            sleep(pause).await;
            pause = PROBE_INTERVAL;
            let users: Vec<UserId> = self.lock().by_user.keys().copied().collect();
            for users in users.chunks(PROBE_ROWS_MAX) {
                let probed = users.to_vec();
                let probing = reads.read(None, move |connection| {
                    Box::pin(async move {
                        probe(connection, &probed).await.map_err(Failure::before_commit)
                    })
                });
                match probing.await {
                    Ok(rows) => self.update(users, &rows),
                    // Nothing is known, so the changes make their own attempts.
                    Err(_) => self.remove(|_, _| true),
                }
            }
            // The task ends with the last mark.
            let mut state = self.lock();
            if state.by_user.is_empty() {
                state.is_watched = false;
                return;
            }
        }
    }

    fn update(&self, users: &[UserId], rows: &[Probed]) {
        let rows: HashMap<i64, &Probed> = rows.iter().map(|row| (row.id, row)).collect();
        let oldest = Instant::now().checked_sub(FORGET_AFTER);
        self.remove(|user, mark| {
            if !users.contains(user) {
                return false;
            }
            let Some(row) = rows.get(&user.get()) else { return true };
            let before = mark.version.replace(row.version);
            let is_busy = before.is_some_and(|version| version != row.version);
            let is_wanted =
                mark.end.receiver_count() > 0 || oldest.is_none_or(|oldest| mark.since > oldest);
            row.is_free || is_busy || !is_wanted
        });
    }

    fn remove(&self, is_over: impl Fn(&UserId, &mut Mark) -> bool) {
        let mut state = self.lock();
        let before = state.by_user.len();
        state.by_user.retain(|user, mark| !is_over(user, mark));
        self.0.count.fetch_sub(before - state.by_user.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can leave the state half-changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_that_failed_itself_does_not_wait_for_each_mark_anew() {
        let began = Instant::now();
        let mut wait = RowWait::begin();
        assert_eq!(wait.deadline(began), began + WAIT_MAX);
        sleep(2 * WAIT_MAX).await;
        let marked = Instant::now();
        assert_eq!(wait.deadline(marked), marked + WAIT_MAX, "its own wait never timed out");
        assert_eq!(wait.deadline(began), began + WAIT_MAX, "as long as those in front of it");
        wait.failed = Some(began);
        assert_eq!(wait.deadline(marked), began + WAIT_MAX, "from its own first failure on");
    }
}
