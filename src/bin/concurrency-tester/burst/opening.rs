//! Opens the connections of a burst, a limited number at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Connection};
use crate::progress::Phase;
use crate::run_error::RunError;

/// The limit of concurrent attempts to connect. The burst tests simultaneous requests, not
/// connects: more of them would overflow the service's backlog and wait for SYN retries.
const CONNECTING_MAX: usize = 256;

/// A failed connect is retried after each of these pauses. The report counts the retries.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// How to open the connections of a burst.
pub(super) struct Opening<'a> {
    pub(super) client: &'a Arc<Client>,
    /// How many.
    pub(super) wanted: usize,
    /// The limit for opening all of them.
    pub(super) timeout: Duration,
    /// Counts the attempts beyond the first of each connection.
    pub(super) reconnects: &'a Arc<AtomicU64>,
}

impl Opening<'_> {
    /// Opens all connections, ready to send.
    ///
    /// # Errors
    /// [`RunError::Connecting`] with the first error that is not transient or outlasts the retries,
    /// [`RunError::ConnectingTooSlow`] after the time-out.
    pub(super) async fn open_all(&self, phase: &Phase) -> Result<Vec<Connection>, RunError> {
        let wanted = self.wanted;
        let done = phase.done();
        let mut open = Vec::with_capacity(wanted);
        let opening = async {
            let mut under_way = JoinSet::new();
            for _ in 0..wanted.min(CONNECTING_MAX) {
                under_way.spawn(self.open_one());
            }
            while let Some(opened) = under_way.join_next().await {
                open.push(opened.map_err(io::Error::other).flatten()?);
                done.fetch_add(1, Ordering::Relaxed);
                if open.len() + under_way.len() < wanted {
                    under_way.spawn(self.open_one());
                }
            }
            Ok(())
        };
        let result = timeout(self.timeout, opening).await;
        match result {
            Ok(Ok(())) => Ok(open),
            Ok(Err(source)) => Err(RunError::Connecting { opened: open.len(), wanted, source }),
            Err(_) => {
                Err(RunError::ConnectingTooSlow { opened: open.len(), wanted, limit: self.timeout })
            }
        }
    }

    fn open_one(&self) -> impl Future<Output = io::Result<Connection>> + use<> {
        open_one(Arc::clone(self.client), Arc::clone(self.reconnects))
    }
}

async fn open_one(client: Arc<Client>, reconnects: Arc<AtomicU64>) -> io::Result<Connection> {
    for pause in PAUSES {
        match client.open().await {
            Err(error) if is_transient(&error) => {
                reconnects.fetch_add(1, Ordering::Relaxed);
                sleep(pause).await;
            }
            result => return result,
        }
    }
    client.open().await
}

/// True if the service may just be busy. A lack of resources on this machine is not transient.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}
