//! The burst: opens all connections, holds every request until all are ready, releases them
//! together.

mod opening;
mod share;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Connection};
use crate::failure::Failure;
use crate::flags::{LineUp, Plan};
use crate::progress::Phase;
use crate::reply::Reply;
use share::{Share, Timed};

/// Three digits of a latency are kept: more than any two runs have in common.
const LATENCY_DIGITS: u8 = 3;

/// One day, the longest time-out there is.
const LATENCY_US_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// What came of one burst.
#[derive(Debug)]
pub(crate) struct Burst {
    /// One for each request, in the order of their numbers.
    pub(crate) replies: Vec<Reply>,
    /// Microseconds, of the requests that got a whole answer: from the release for the first of
    /// each connection, from its own sending for the others.
    pub(crate) latency_us: Histogram<u64>,
    /// From the release to the last answer, or to when it was given up.
    pub(crate) took: Duration,
    /// How long it took to open all connections.
    pub(crate) connecting_took: Duration,
    /// Attempts to connect beyond one for each connection.
    pub(crate) reconnects: u64,
}

/// Sends the plan's requests through one approach, or through several at once. The future may be
/// dropped: all of its connections are closed then.
///
/// # Errors
/// Only before the release: when the connections cannot be opened. After it, whatever goes wrong
/// is a reply.
pub(crate) async fn fire(
    client: &Arc<Client>,
    line_up: &LineUp<'_>,
    plan: &Plan,
) -> Result<Burst, Failure> {
    let reconnects = Arc::new(AtomicU64::new(0));
    let phase = Phase::start(format!("{}: connections", line_up.name), plan.connections);
    let connecting_since = Instant::now();
    let connections = opening::open_all(client, plan, &phase, &reconnects).await?;
    let connecting_took = connecting_since.elapsed();
    phase.finish(connecting_took);

    let phase = Phase::start(format!("{}: answers", line_up.name), plan.requests);
    let volley = Volley { client, line_up, plan, phase: &phase, reconnects: &reconnects };
    let (released, timed) = volley.release(connections).await;
    let took = timed
        .iter()
        .map(|timed| timed.ended)
        .max()
        .map_or(Duration::ZERO, |last| last.saturating_duration_since(released));
    phase.finish(took);
    Ok(Burst {
        latency_us: latencies(&timed),
        replies: timed.into_iter().map(|timed| timed.reply).collect(),
        took,
        connecting_took,
        reconnects: reconnects.load(std::sync::atomic::Ordering::Relaxed),
    })
}

struct Volley<'a> {
    client: &'a Arc<Client>,
    line_up: &'a LineUp<'a>,
    plan: &'a Plan,
    phase: &'a Phase,
    reconnects: &'a Arc<AtomicU64>,
}

impl Volley<'_> {
    /// Lines all connections up behind one gate, opens it, and waits for all replies.
    async fn release(&self, connections: Vec<Connection>) -> (Instant, Vec<Timed>) {
        let (gate, at_the_gate) = watch::channel(None);
        let mut shares = JoinSet::new();
        let step = connections.len();
        let approaches = self.line_up.approaches.iter().cycle();
        for ((first, connection), approach) in connections.into_iter().enumerate().zip(approaches) {
            let share = Share {
                client: Arc::clone(self.client),
                approach: approach.as_str().into(),
                user: self.plan.user,
                amount: self.plan.terms.amount,
                numbers: (first..self.plan.requests).step_by(step),
                timeout: self.plan.timeout,
                done: self.phase.done(),
                reconnects: Arc::clone(self.reconnects),
            };
            shares.spawn(share.send(connection, at_the_gate.clone()));
        }
        drop(at_the_gate);
        let released = Instant::now();
        gate.send_replace(Some(released));
        (released, collect(shares, self.plan.requests).await)
    }
}

async fn collect(mut shares: JoinSet<Vec<(usize, Timed)>>, requests: usize) -> Vec<Timed> {
    let mut all: Vec<Option<Timed>> = Vec::new();
    all.resize_with(requests, || None);
    while let Some(share) = shares.join_next().await {
        // A task of ours that panics is a bug of ours: it must not pass for a missing answer.
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
