//! A session that serves one task only: opened when it is needed, and replaced when it is lost.

use std::time::Duration;

use sqlx::Executor;
use tokio::time::Instant;
use tracing::debug;

use super::error::Failure;
use super::session::{Connector, Session, SessionLimits, Spent};
use crate::ledger::ChangeError;

/// How old the plans of a session may become. A plan that was made while a table was empty scans it. The
/// server makes new plans when it next analyses the table, which may take a minute; new ones cost some
/// two milliseconds.
const PLANS_AGE_MAX: Duration = Duration::from_secs(1);

/// How long discarding the plans may take. It costs the server nothing, so a slower session is closed.
const DISCARD_MAX: Duration = Duration::from_secs(1);

/// Settings for sessions that serve batches. They keep the planner from scans and hashes where it should
/// use an index: it cannot know how few rows a batch needs, and rows must be locked in the order of the
/// arrays, which is by user. A plan is generic and made once, except where the tables are sharded: a
/// cluster rejects a generic plan.
pub const OF_BATCHES: &str = r"
SELECT set_config('plan_cache_mode',
           CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
               THEN 'auto' ELSE 'force_generic_plan' END, false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_bitmapscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('jit', 'off', false)";

/// A session that is opened on demand.
pub struct OwnSession {
    connector: Connector,
    /// Sent once to each new session.
    settings: &'static str,
    session: Option<Session>,
    planned: Instant,
}

impl OwnSession {
    /// Does not connect yet. `settings` is a statement that each new session begins with.
    pub fn new(connector: Connector, settings: &'static str) -> Self {
        Self { connector, settings, session: None, planned: Instant::now() }
    }

    /// The limits of the session.
    pub fn limits(&self) -> SessionLimits {
        self.connector.limits()
    }

    /// Takes the session for a piece of work, after a [check](Connector::check). Opens a new one
    /// where there is none. Bounded in time.
    ///
    /// # Errors
    /// [`Failure::Unreachable`]: nothing was sent.
    pub async fn take(&mut self) -> Result<Session, Failure> {
        if let Some(mut session) = self.session.take()
            && self.connector.check(&mut session).await.is_ok()
        {
            return Ok(session);
        }
        let opened = self.connector.open().await;
        let session = opened.map_err(|error| Failure::Unreachable(error.into()))?;
        self.planned = Instant::now();
        let unusable = || Failure::Unreachable("the session did not take its settings".into());
        let limit = self.connector.limits().answer;
        run(session, limit, self.settings).await.ok_or_else(unusable)
    }

    /// Gives the session back after a piece of work; none if it must not be used again.
    pub async fn give_back(&mut self, spent: Option<Spent>) {
        self.session = match spent {
            Some(spent) => spent.recover().await,
            None => None,
        };
        // After the work and not before it: if this fails, that says nothing about the work.
        if self.planned.elapsed() > PLANS_AGE_MAX
            && let Some(session) = self.session.take()
        {
            self.planned = Instant::now();
            self.session = run(session, DISCARD_MAX, "DISCARD PLANS").await;
        }
    }
}

/// The session after this statement; none if it must not be used.
async fn run(session: Session, limit: Duration, sql: &'static str) -> Option<Session> {
    let (result, spent) = session
        .run(limit, |connection| {
            Box::pin(async move {
                let done = connection.execute(sql).await;
                done.map_err(Failure::before_commit)
            })
        })
        .await;
    if let Err(failure) = result {
        let error = ChangeError::from(failure);
        debug!(%error, "a session cannot be used");
        return None;
    }
    spent?.recover().await
}
