//! All access to PostgreSQL, apart from the statements of the approaches.
//!
//! - Sessions and their fair pool: [`hosts`], [`session`], [`pool`], [`sessions`],
//!   [`own_session`].
//! - The meaning of failures: [`error`]; bounded retries: [`retry`].
//! - Rows that stay locked: [`held`].
//! - The start: [`first_connection`], [`schema`]; the rights of the service's role: [`grants`].
//! - Tables and their statements: [`users`], [`history`], [`holds`], [`keys`],
//!   [`key_expiry`], [`hold_expiry`], [`posting`], [`balance_at`]; moments: `timestamp`.
//! - How much of a queue one user may fill: [`share`].
//! - Whether the database accepts changes: [`readiness`]; how much it holds: [`sizes`].

pub mod balance_at;
pub mod error;
pub mod first_connection;
pub mod grants;
pub mod held;
pub mod history;
pub mod hold_expiry;
pub mod holds;
pub mod hosts;
pub mod key_expiry;
pub mod keys;
mod migrating;
pub mod own_session;
pub mod pool;
pub mod posting;
pub mod readiness;
pub mod retry;
pub mod schema;
pub mod session;
pub mod sessions;
pub mod share;
pub mod sizes;
mod timestamp;
pub mod users;

use std::time::Duration;

use crate::ledger::{Balance, ChangeError, Key, UserId};
use crate::metrics::Metrics;
use crate::metrics::sessions::{PoolKind, PoolUse};
use error::Failure;
use retry::Attempts;
use session::{Connector, SessionLimits};
use sessions::Sessions;

/// The number of sessions, and their time-outs.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Sessions for changes, all opened at start.
    pub size: u32,
    /// Additional sessions, for reads.
    pub reads: u32,
    /// How long a change may wait for a session before it is refused as not applied.
    pub wait: Duration,
    /// The limits of each session.
    pub session: SessionLimits,
    /// How long to wait at start for a database that does not answer yet.
    pub connect: Duration,
}

impl PoolLimits {
    /// The number of threads that have sessions. Each has at least two for changes, so that one user
    /// cannot have all of them, and one for reads.
    pub fn homes(&self, threads: u32) -> u32 {
        threads.min(self.size / 2).min(self.reads).max(1)
    }

    /// The limits of one of these threads, its share of the sessions.
    pub fn of_home(&self, number: u32, homes: u32) -> Self {
        let share = |all: u32| (all / homes + u32::from(number < all % homes)).max(1);
        Self { size: share(self.size), reads: share(self.reads), ..*self }
    }
}

/// One thread's access to the database. Clones share the sessions.
#[derive(Clone, Debug)]
pub struct Store {
    changes: Sessions,
    reads: Sessions,
}

impl Store {
    /// Opens all sessions, on the current runtime.
    ///
    /// # Errors
    /// As the database says.
    pub async fn open(
        connector: &Connector,
        limits: PoolLimits,
        metrics: &Metrics,
    ) -> Result<Self, sqlx::Error> {
        let PoolLimits { size, reads, wait, .. } = limits;
        let [for_changes, for_reads] =
            [PoolKind::Changes, PoolKind::Reads].map(|kind| metrics.of_pool(kind));
        let changes = Sessions::open(connector, size, wait, for_changes).await?;
        let reads = Sessions::open(connector, reads, wait, for_reads).await?;
        Ok(Self { changes, reads })
    }

    /// How much of the sessions is used at the moment: of those for changes, and of those for reads.
    pub fn used(&self) -> [PoolUse; 2] {
        [self.changes.used(), self.reads.used()]
    }

    /// The sessions for changes.
    pub fn changes(&self) -> &Sessions {
        &self.changes
    }

    /// The sessions for reads.
    pub fn reads(&self) -> &Sessions {
        &self.reads
    }

    /// A user as of now.
    ///
    /// # Errors
    /// [`ChangeError::UserNotFound`], or an error of the database.
    pub async fn user(&self, user: UserId) -> Result<users::User, ChangeError> {
        self.reads.read(Some(user), move |connection| Box::pin(users::read(connection, user))).await
    }

    /// Creates a user; with a key, at most once.
    ///
    /// # Errors
    /// [`ChangeError::KeyReused`], or an error of the database.
    pub async fn create_user(
        &self,
        opening: Balance,
        key: Option<Key>,
    ) -> Result<users::Created, ChangeError> {
        let mut attempts = Attempts::new(users::POLICY);
        loop {
            let key = key.clone();
            let creating = self.changes.perform(None, move |connection| {
                Box::pin(async move { users::create(connection, opening, key.as_ref()).await })
            });
            match creating.await {
                Err(Failure::Race(_)) if attempts.again().await => {}
                created => return Ok(created?),
            }
        }
    }

    /// At most `limit` entries of a user's journal, newest first, with versions below `before`.
    ///
    /// # Errors
    /// [`ChangeError::UserNotFound`], or an error of the database.
    pub async fn history(
        &self,
        user: UserId,
        before: i64,
        limit: i64,
    ) -> Result<Vec<history::Entry>, ChangeError> {
        self.reads
            .read(Some(user), move |connection| {
                Box::pin(async move {
                    let entries = history::page(connection, user, before, limit).await?;
                    if entries.is_empty() {
                        // An empty history, or an unknown user?
                        users::read(connection, user).await?;
                    }
                    Ok(entries)
                })
            })
            .await
    }

    /// Waits for running work, for at most `limit`, and closes all sessions.
    pub async fn close(&self, limit: Duration) {
        tokio::join!(self.changes.close(limit), self.reads.close(limit));
    }
}
