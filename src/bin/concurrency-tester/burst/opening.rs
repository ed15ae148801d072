//! Opens the connections of a burst, many at a time but never all at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Connection};
use crate::failure::Failure;
use crate::flags::Plan;
use crate::progress::Phase;

/// Connects under way at the same time. The burst is about simultaneous requests, not about
/// connects: more of them would only overflow the service's backlog and wait for SYN retries.
const CONNECTING_MAX: usize = 256;

/// A connect is tried again after each of these pauses. The report counts every such attempt.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// Opens the plan's connections, all ready to send.
///
/// # Errors
/// [`Failure::Connecting`] with the first error that did not go away,
/// [`Failure::ConnectingTooSlow`] after the plan's time-out.
pub(super) async fn open_all(
    client: &Arc<Client>,
    plan: &Plan,
    phase: &Phase,
    reconnects: &Arc<AtomicU64>,
) -> Result<Vec<Connection>, Failure> {
    let wanted = plan.connections;
    let done = phase.done();
    let mut open = Vec::with_capacity(wanted);
    let opening = async {
        let mut under_way = JoinSet::new();
        for _ in 0..wanted.min(CONNECTING_MAX) {
            under_way.spawn(open_one(Arc::clone(client), Arc::clone(reconnects)));
        }
        while let Some(opened) = under_way.join_next().await {
            open.push(opened.map_err(io::Error::other).flatten()?);
            done.fetch_add(1, Ordering::Relaxed);
            if open.len() + under_way.len() < wanted {
                under_way.spawn(open_one(Arc::clone(client), Arc::clone(reconnects)));
            }
        }
        Ok(())
    };
    let outcome = timeout(plan.timeout, opening).await;
    match outcome {
        Ok(Ok(())) => Ok(open),
        Ok(Err(source)) => Err(Failure::Connecting { opened: open.len(), wanted, source }),
        Err(_) => {
            Err(Failure::ConnectingTooSlow { opened: open.len(), wanted, limit: plan.timeout })
        }
    }
}

async fn open_one(client: Arc<Client>, reconnects: Arc<AtomicU64>) -> io::Result<Connection> {
    for pause in PAUSES {
        match client.open().await {
            Err(error) if may_pass(&error) => {
                reconnects.fetch_add(1, Ordering::Relaxed);
                sleep(pause).await;
            }
            settled => return settled,
        }
    }
    client.open().await
}

/// The service was busy; what this machine lacks does not come by waiting.
fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}
