//! What one connection does in a burst.

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

use crate::client::{Client, Connection};
use crate::reply::Reply;

/// A reply, and when its request began and ended.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) reply: Reply,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// The requests of one connection.
pub(super) struct Share {
    pub(super) client: Arc<Client>,
    pub(super) approach: Box<str>,
    pub(super) user: i64,
    pub(super) amount: i64,
    /// Counted from 0.
    pub(super) numbers: StepBy<Range<usize>>,
    /// For the whole burst, from the release on.
    pub(super) timeout: Duration,
    pub(super) done: Arc<AtomicU64>,
    pub(super) reconnects: Arc<AtomicU64>,
}

impl Share {
    /// Waits at the gate with the first request in hand, then sends one after another. When the
    /// time is up, the rest is not sent any more and counts as not answered.
    pub(super) async fn send(
        mut self,
        connection: Connection,
        mut gate: watch::Receiver<Option<Instant>>,
    ) -> Vec<(usize, Timed)> {
        let mut prepared = Some(self.request());
        let mut connection = Some(connection);
        let released = match gate.wait_for(Option::is_some).await {
            Ok(released) => *released,
            Err(_) => None,
        };
        // The gate is only ever dropped together with the whole burst.
        let Some(released) = released else { return Vec::new() };
        let deadline = released + self.timeout;
        let mut began = released;
        let mut replies = Vec::with_capacity(self.numbers.len());
        while let Some(number) = self.numbers.next() {
            let reply = if began < deadline {
                let request = prepared.take().unwrap_or_else(|| self.request());
                let exchange = self.exchange(&mut connection, request);
                timeout_at(deadline, exchange).await.unwrap_or(Reply::TimedOut)
            } else {
                Reply::TimedOut
            };
            let ended = Instant::now();
            if !matches!(reply, Reply::Answer { .. }) {
                // What is left of it may still carry the late answer to this request.
                connection = None;
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            replies.push((number, Timed { reply, began, ended }));
            began = ended;
        }
        replies
    }

    fn request(&self) -> Request<Full<Bytes>> {
        self.client.change(&self.approach, self.user, self.amount)
    }

    /// A service may close a connection between two requests: as nothing was sent, the request
    /// goes over a new one, which the report counts. A request that was sent is never repeated.
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
