//! The burst: opens all connections, holds every request until all connections are ready, then
//! releases the requests together.

mod opening;
mod share;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hdrhistogram::Histogram;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Connection};
use crate::plan::Plan;
use crate::progress::Phase;
use crate::reply::Reply;
use crate::run_error::RunError;
use crate::witness::record::Window;
use opening::Opening;
use share::{Share, Timed};

/// Latencies keep three digits: two runs never agree on more.
const LATENCY_DIGITS: u8 = 3;

/// One day, the longest time-out that the flags allow.
const LATENCY_US_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// The requests of a burst. Their numbers begin with 0.
pub(crate) trait Requests: Send + Sync {
    /// The name of the burst.
    fn name(&self) -> &str;

    /// How many there are.
    fn count(&self) -> usize;

    /// The request with this number.
    fn request(&self, client: &Client, number: usize) -> Request<Full<Bytes>>;

    /// The request with this number as one line for the log. `None` where all are the same.
    fn line(&self, _number: usize) -> Option<String> {
        None
    }
}

/// The replies and timings of one burst.
#[derive(Debug)]
pub(crate) struct Burst {
    /// One for each request, in order of their numbers.
    pub(crate) replies: Vec<Reply>,
    /// When each of them began and ended.
    pub(crate) windows: Vec<Window>,
    /// In microseconds, of the requests with a whole answer. The first request of a connection is
    /// measured from the release, each later one from its own sending.
    pub(crate) latency_us: Histogram<u64>,
    /// From the release to the last answer or time-out.
    pub(crate) took: Duration,
    /// How long it took to open all connections.
    pub(crate) connecting_took: Duration,
    /// Attempts to connect beyond the first of each connection.
    pub(crate) reconnects: u64,
}

/// Sends the requests, over as many connections as the plan says. The future may be dropped, which
/// closes all connections.
///
/// # Errors
/// Connections that cannot be opened, before the release. Any later error becomes a [`Reply`].
pub(crate) async fn fire(
    client: &Arc<Client>,
    requests: &Arc<dyn Requests>,
    plan: &Plan,
) -> Result<Burst, RunError> {
    let (name, count) = (requests.name(), requests.count());
    let wanted = plan.connections.min(count);
    let reconnects = Arc::new(AtomicU64::new(0));
    let phase = Phase::start(format!("{name}: connections"), wanted);
    let connecting_since = Instant::now();
    let opening = Opening { client, wanted, timeout: plan.timeout, reconnects: &reconnects };
    let connections = opening.open_all(&phase).await?;
    let connecting_took = connecting_since.elapsed();
    phase.finish(connecting_took);

    let phase = Phase::start(format!("{name}: answers"), count);
    let sender = Sender { client, requests, plan, phase: &phase, reconnects: &reconnects };
    let (released, timed) = sender.send_all(connections).await;
    let took = timed
        .iter()
        .map(|timed| timed.ended)
        .max()
        .map_or(Duration::ZERO, |last| last.saturating_duration_since(released));
    phase.finish(took);
    Ok(Burst {
        latency_us: latencies(&timed),
        windows: timed.iter().map(|timed| timed.window(released)).collect(),
        replies: timed.into_iter().map(|timed| timed.reply).collect(),
        took,
        connecting_took,
        reconnects: reconnects.load(std::sync::atomic::Ordering::Relaxed),
    })
}

struct Sender<'a> {
    client: &'a Arc<Client>,
    requests: &'a Arc<dyn Requests>,
    plan: &'a Plan,
    phase: &'a Phase,
    reconnects: &'a Arc<AtomicU64>,
}

impl Sender<'_> {
    /// Starts a task for each connection, releases all tasks together, and waits for all replies.
    /// Returns the instant of the release as well.
    async fn send_all(&self, connections: Vec<Connection>) -> (Instant, Vec<Timed>) {
        let (gate, at_the_gate) = watch::channel(None);
        let mut shares = JoinSet::new();
        let step = connections.len();
        let count = self.requests.count();
        for (first, connection) in connections.into_iter().enumerate() {
            let share = Share {
                client: Arc::clone(self.client),
                requests: Arc::clone(self.requests),
                numbers: (first..count).step_by(step),
                timeout: self.plan.timeout,
                done: self.phase.done(),
                reconnects: Arc::clone(self.reconnects),
            };
            shares.spawn(share.send(connection, at_the_gate.clone()));
        }
        drop(at_the_gate);
        let released = Instant::now();
        gate.send_replace(Some(released));
        (released, collect(shares, count).await)
    }
}

async fn collect(mut shares: JoinSet<Vec<(usize, Timed)>>, requests: usize) -> Vec<Timed> {
    let mut all: Vec<Option<Timed>> = Vec::new();
    all.resize_with(requests, || None);
    while let Some(share) = shares.join_next().await {
        // A panic here is a bug of the tester: it must not look like a missing answer.
        for (number, timed) in share.expect("a share of the burst does not panic") {
            all[number] = Some(timed);
        }
    }
    all.into_iter().map(|timed| timed.expect("the shares cover every request")).collect()
}

fn latencies(timed: &[Timed]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS)
        .expect("the bounds are constants that fit");
    for timed in timed.iter().filter(|timed| matches!(timed.reply, Reply::Answer { .. })) {
        let latency = timed.ended.saturating_duration_since(timed.began).as_micros();
        histogram.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
    }
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_those_of_the_answers_in_microseconds() {
        let began = Instant::now();
        let timed = |reply, ms| Timed { reply, began, ended: began + Duration::from_millis(ms) };
        let answer = || Reply::Answer { status: 200, body: Box::default() };
        let mut all: Vec<_> = (1..=100).map(|ms| timed(answer(), ms)).collect();
        all.push(timed(Reply::TimedOut, 120_000));

        let histogram = latencies(&all);

        assert_eq!(histogram.len(), 100);
        for (quantile, due_us) in [(0.5, 50_000), (0.9, 90_000), (0.99, 99_000), (1.0, 100_000)] {
            let found_us = histogram.value_at_quantile(quantile);
            assert!(found_us.abs_diff(due_us) <= due_us / 1_000, "{quantile}: {found_us} µs");
        }
    }
}
