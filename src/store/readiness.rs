//! Whether the database accepts changes, for `GET /readyz`.
//!
//! The check has a session of its own: in the pool it would queue behind a burst, and a busy instance
//! would seem unready. Simultaneous requests share one check.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::error::Failure;
use super::session::{Connector, Session};

/// The time-out of a check. It costs the database nothing, so a slower one is not ready.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a result is reused.
const FRESH: Duration = Duration::from_millis(50);

/// The readiness check. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    home: Handle,
    checker: Arc<Mutex<Checker>>,
}

#[derive(Debug)]
struct Checker {
    connector: Connector,
    session: Option<Session>,
    /// A session that is being opened, which may take longer than one check.
    opening: Option<JoinHandle<Result<Session, sqlx::Error>>>,
    last: Option<(Instant, bool)>,
}

impl Readiness {
    /// Its session lives on the current runtime.
    pub fn new(connector: Connector) -> Self {
        let checker = Checker { connector, session: None, opening: None, last: None };
        Self { home: Handle::current(), checker: Arc::new(Mutex::new(checker)) }
    }

    /// Whether the database answers and is not read-only. Takes a few seconds at most.
    pub async fn check(&self) -> bool {
        let checker = Arc::clone(&self.checker);
        let checking = self.home.spawn(async move { checker.lock().await.check().await });
        // Twice: a running check may come first. The queued ones reuse its result.
        matches!(timeout(2 * LIMIT, checking).await, Ok(Ok(true)))
    }
}

impl Checker {
    async fn check(&mut self) -> bool {
        if let Some((at, accepts_changes)) = self.last
            && at.elapsed() < FRESH
        {
            return accepts_changes;
        }
        let accepts_changes = timeout(LIMIT, self.query()).await.unwrap_or(false);
        self.last = Some((Instant::now(), accepts_changes));
        accepts_changes
    }

    /// Dropping the future closes the session in use, but not one that is being opened.
    async fn query(&mut self) -> bool {
        let rested = match self.session.take() {
            Some(mut session) => {
                self.connector.check(&mut session).await.is_ok().then_some(session)
            }
            None => None,
        };
        let session = match rested {
            Some(session) => session,
            None => {
                let opening = self.opening.get_or_insert_with(|| {
                    let connector = self.connector.clone();
                    tokio::spawn(async move { connector.open().await })
                });
                let opened = opening.await;
                self.opening = None;
                let Ok(Ok(session)) = opened else { return false };
                session
            }
        };
        let (answer, spent) = session
            .run(LIMIT, |connection| {
                Box::pin(async move {
                    sqlx::query_scalar("SELECT current_setting('transaction_read_only') = 'off'")
                        .fetch_one(connection)
                        .await
                        .map_err(Failure::before_commit)
                })
            })
            .await;
        let accepts_changes = answer.unwrap_or(false);
        if accepts_changes && let Some(spent) = spent {
            self.session = spent.recover().await;
        }
        accepts_changes
    }
}
