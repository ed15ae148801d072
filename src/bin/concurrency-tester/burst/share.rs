//! Sends the requests of one connection in a burst.

use std::iter::StepBy;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Requests;
use crate::client::{Client, Connection};
use crate::reply::Reply;
use crate::witness::record::Window;

/// A reply, and the times when its request began and ended.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) reply: Reply,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Timed {
    /// When it was, counted from the release.
    pub(super) fn window(&self, released: Instant) -> Window {
        let since = |moment: Instant| {
            let nanoseconds = moment.saturating_duration_since(released).as_nanos();
            u64::try_from(nanoseconds).unwrap_or(u64::MAX)
        };
        Window { called: since(self.began), returned: since(self.ended) }
    }
}

/// One connection's share of the requests.
pub(super) struct Share {
    pub(super) client: Arc<Client>,
    pub(super) requests: Arc<dyn Requests>,
    /// The numbers of its requests, counted from 0.
    pub(super) numbers: StepBy<Range<usize>>,
    /// The limit for the whole burst, counted from the release.
    pub(super) timeout: Duration,
    pub(super) done: Arc<AtomicU64>,
    pub(super) reconnects: Arc<AtomicU64>,
}

impl Share {
    /// Prepares the first request, waits for the release, then sends the requests one after
    /// another. After the time-out, the rest is not sent and counts as not answered.
    pub(super) async fn send(
        mut self,
        connection: Connection,
        mut gate: watch::Receiver<Option<Instant>>,
    ) -> Vec<(usize, Timed)> {
        let mut prepared = self.numbers.clone().next().map(|first| self.request(first));
        let mut connection = Some(connection);
        let released = match gate.wait_for(Option::is_some).await {
            Ok(released) => *released,
            Err(_) => None,
        };
        // The gate is dropped unopened only if the whole burst is dropped.
        let Some(released) = released else { return Vec::new() };
        let deadline = released + self.timeout;
        let mut began = released;
        let mut replies = Vec::with_capacity(self.numbers.len());
        while let Some(number) = self.numbers.next() {
            let reply = if began < deadline {
                let request = prepared.take().unwrap_or_else(|| self.request(number));
                let exchange = self.exchange(&mut connection, request);
                timeout_at(deadline, exchange).await.unwrap_or(Reply::TimedOut)
            } else {
                Reply::TimedOut
            };
            let ended = Instant::now();
            if !matches!(reply, Reply::Answer { .. }) {
                // The late answer to this request may still arrive on this connection.
                connection = None;
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            replies.push((number, Timed { reply, began, ended }));
            began = ended;
        }
        replies
    }

    fn request(&self, number: usize) -> Request<Full<Bytes>> {
        self.requests.request(&self.client, number)
    }

    /// Sends one request. The service may close the connection between two requests. In that case
    /// nothing was sent: the request goes over a new connection, and the report counts the
    /// reconnect. A request that was sent is never repeated.
    async fn exchange(
        &self,
        slot: &mut Option<Connection>,
        request: Request<Full<Bytes>>,
    ) -> Reply {
        if let Some(connection) = slot
            && connection.ready().await
        {
            return connection.exchange(request).await;
        }
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        match self.client.open().await {
            Ok(connection) => slot.insert(connection).exchange(request).await,
            Err(error) => Reply::ConnectionLost(format!("connecting again: {error}").into()),
        }
    }
}
