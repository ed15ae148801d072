//! The connections of one client, one to each instance, and one request over them.

use std::time::Duration;

use fastrand::Rng;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout, timeout_at};

use super::draw::HangUp;
use super::shared::Shared;
use crate::client::Connection;
use crate::contract::request::Sent;
use crate::reply::Reply;
use crate::witness::record::Window;

/// The longest page of a history that is asked for.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The pause after a connection that could not be opened, at most.
const RECONNECT_PAUSE_MS: u64 = 50;

/// What became of one request.
pub(super) struct Heard {
    pub(super) reply: Reply,
    pub(super) window: Window,
    /// What the answer asks for, in seconds.
    pub(super) retry_after: Option<u64>,
}

pub(super) struct Wires {
    open: Vec<Option<Connection>>,
}

impl Wires {
    pub(super) fn to(instances: usize) -> Self {
        Self { open: (0..instances).map(|_| None).collect() }
    }

    /// An instance that takes connections, chosen at random. `None` if the load ends meanwhile.
    pub(super) async fn any(&mut self, shared: &Shared, rng: &mut Rng) -> Option<usize> {
        loop {
            let target = rng.usize(..self.open.len());
            if let Some(connection) = self.connection(shared, target).await {
                self.open[target] = Some(connection);
                return Some(target);
            }
            if shared.stop.has_begun() {
                return None;
            }
            sleep(Duration::from_millis(rng.u64(1..RECONNECT_PAUSE_MS))).await;
        }
    }

    async fn connection(&mut self, shared: &Shared, target: usize) -> Option<Connection> {
        if let Some(mut connection) = self.open[target].take()
            && connection.ready().await
        {
            return Some(connection);
        }
        shared.instances[target].open().await.ok()
    }

    /// Sends one request, and hangs up as it is told. `None` if nothing was sent.
    pub(super) async fn send(
        &mut self,
        shared: &Shared,
        target: usize,
        sent: Sent,
        hang_up: HangUp,
    ) -> Option<Heard> {
        let within = match hang_up {
            HangUp::Never => None,
            HangUp::After(micros) => Some(Duration::from_micros(micros)),
            HangUp::AtOnce => return cut(shared, target, &sent, 1.0).await,
            HangUp::Within(share) => return cut(shared, target, &sent, share).await,
        };
        let request = shared.instances[target].send(sent);
        self.ask(shared, target, request, within).await
    }

    /// Sends one request. Without an answer `within` this time, the client hangs up.
    pub(super) async fn ask(
        &mut self,
        shared: &Shared,
        target: usize,
        request: Request<Full<Bytes>>,
        within: Option<Duration>,
    ) -> Option<Heard> {
        let mut connection = self.connection(shared, target).await?;
        shared.counters.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let called = shared.clock.now();
        let exchange = connection.exchange_up_to(BODY_BYTES_MAX, request);
        let reply = match within {
            Some(within) => timeout(within, exchange).await.unwrap_or_else(|_| hung_up()),
            None => timeout_at(shared.give_up(), exchange).await.unwrap_or(Reply::TimedOut),
        };
        let window = Window { called, returned: shared.clock.now() };
        let retry_after = connection.retry_after.take();
        if matches!(reply, Reply::Answer { .. }) {
            self.open[target] = Some(connection);
        }
        Some(Heard { reply, window, retry_after })
    }
}

/// Sends a share of the request's bytes over a connection of its own, and closes that.
async fn cut(shared: &Shared, target: usize, sent: &Sent, share: f64) -> Option<Heard> {
    let bytes = shared.instances[target].bytes(sent);
    let count =
        bytes.iter().enumerate().take_while(|(n, _)| *n as f64 <= share * bytes.len() as f64);
    let count = count.count();
    let mut stream = shared.instances[target].connect().await.ok()?;
    shared.counters.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let called = shared.clock.now();
    // Whether all of it got through or not: the client does not know what became of it.
    let _ = timeout_at(shared.give_up(), stream.write_all(&bytes[..count])).await;
    drop(stream);
    let window = Window { called, returned: shared.clock.now() };
    Some(Heard { reply: hung_up(), window, retry_after: None })
}

pub(super) fn hung_up() -> Reply {
    Reply::ConnectionLost("the client hung up".into())
}
