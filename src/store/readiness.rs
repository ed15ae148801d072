//! Whether the database takes changes, for `GET /readyz`.
//!
//! On a session of its own: behind a burst in the pool an instance would be called unready just
//! because it is busy. And one check serves all who ask at the same time.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::error::Failure;
use super::session::{Connector, Session};

/// A database that takes longer than this for nothing at all is not ready for anything.
const LIMIT: Duration = Duration::from_secs(2);

/// An answer is as good as a new one for so long.
const FRESH: Duration = Duration::from_millis(50);

/// The one who looks. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    home: Handle,
    watch: Arc<Mutex<Watch>>,
}

#[derive(Debug)]
struct Watch {
    connector: Connector,
    session: Option<Session>,
    /// A session on its way. It may take longer than anybody waits for this answer.
    opening: Option<JoinHandle<Result<Session, sqlx::Error>>>,
    last: Option<(Instant, bool)>,
}

impl Readiness {
    /// Its session lives on the current runtime.
    pub fn new(connector: Connector) -> Self {
        let watch = Watch { connector, session: None, opening: None, last: None };
        Self { home: Handle::current(), watch: Arc::new(Mutex::new(watch)) }
    }

    /// Whether the database answers, and is not read-only. At most some seconds.
    pub async fn check(&self) -> bool {
        let watch = Arc::clone(&self.watch);
        let checking = self.home.spawn(async move { watch.lock().await.check().await });
        // Those before this one in the queue each find the answer of the one before them.
        matches!(timeout(2 * LIMIT, checking).await, Ok(Ok(true)))
    }
}

impl Watch {
    async fn check(&mut self) -> bool {
        if let Some((at, answer)) = self.last
            && at.elapsed() < FRESH
        {
            return answer;
        }
        let answer = timeout(LIMIT, self.ask()).await.unwrap_or(false);
        self.last = Some((Instant::now(), answer));
        answer
    }

    /// Whoever drops this future drops the session with it, but not one that is on its way.
    async fn ask(&mut self) -> bool {
        let rested = match self.session.take() {
            Some(mut session) => session.check().await.is_ok().then_some(session),
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
        let takes_changes = answer.unwrap_or(false);
        if takes_changes && let Some(spent) = spent {
            self.session = spent.recover().await;
        }
        takes_changes
    }
}
