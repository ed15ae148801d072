//! What the service measures about itself, with its names in `GET /metrics`.
//!
//! Names and units follow Prometheus' conventions: seconds, `_total` for what only grows. Counters begin
//! with the process. A reader computes rates.
//!
//! - `requests`: requests by route and status, with their durations.
//! - `outcomes`: changes and operations, by how they ended.
//! - `lanes`: queues, batches, and restarts of lanes.
//! - [`sessions`]: the pools of database sessions.
//! - [`database`]: what the database holds, as a background task last saw it.
//! - [`feed`]: streams of events, and how late they are.
//!
//! The histograms are those of the library, each behind a mutex. Two threads that serve requests hold it
//! for some nanoseconds each, which is measured in ARCHITECTURE.md.

pub mod database;
pub mod feed;
pub(crate) mod lanes;
pub(crate) mod outcomes;
pub(crate) mod requests;
pub mod sessions;

use std::ops::Add;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use database::Database;
use feed::FeedCounters;
pub(crate) use lanes::LaneCounters;
use lanes::{LaneKind, Lanes};
use outcomes::Outcomes;
pub(crate) use outcomes::{ApproachCounters, OperationCounters};
use requests::Requests;
use sessions::{PoolKind, Pools};

/// The commit that the executable was built from.
const COMMIT: &str = match option_env!("PLIMSOLL_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The metrics of a service. All of its threads share them.
pub struct Metrics {
    registry: Registry,
    requests: Requests,
    outcomes: Outcomes,
    lanes: Lanes,
    pools: Pools,
    database: Database,
    feed: FeedCounters,
}

/// What is only known at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// The lanes of `batched`.
    pub changes: QueueUse,
    /// The lane of operations.
    pub operations: QueueUse,
    /// The sessions for changes, and those for reads, of all threads.
    pub pools: [sessions::PoolUse; 2],
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueUse {
    /// How much waits for a batch.
    pub queued: usize,
    /// How much may wait.
    pub max: usize,
}

impl Add for QueueUse {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { queued: self.queued + other.queued, max: self.max + other.max }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("plimsoll");
        let build = BuildLabels { version: env!("CARGO_PKG_VERSION"), commit: COMMIT };
        registry.register("build", "The version that runs", Info::new(build));
        let requests = Requests::new(&mut registry);
        let outcomes = Outcomes::new(&mut registry);
        let lanes = Lanes::new(&mut registry);
        let pools = Pools::new(&mut registry);
        let database = Database::default();
        registry.register_collector(Box::new(database.clone()));
        let feed = FeedCounters::new(&mut registry);
        Self { registry, requests, outcomes, lanes, pools, database, feed }
    }
}

impl Metrics {
    /// All metrics, in the text format of OpenMetrics 1.0.
    pub(crate) fn text(&self, snapshot: &Snapshot) -> String {
        self.requests.refresh();
        self.lanes.refresh(snapshot);
        self.pools.refresh(snapshot);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }

    /// The metrics of requests.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The counters of one approach. From now on they are shown, even at zero.
    pub(crate) fn of(&self, approach: &'static str) -> ApproachCounters {
        self.outcomes.of_approach(approach)
    }

    /// The counters that the lanes of that approach update themselves.
    pub(crate) fn of_lanes(&self, approach: &'static str) -> LaneCounters {
        self.lanes.counters(LaneKind::Changes, self.of(approach).retries)
    }

    /// The counters of operations. From now on they are shown, even at zero.
    pub(crate) fn of_operations(&self) -> OperationCounters {
        let retries = self.outcomes.operation_retries();
        self.outcomes.of_operations(self.lanes.counters(LaneKind::Operations, retries))
    }

    /// The counters of one pool of sessions.
    pub(crate) fn of_pool(&self, kind: PoolKind) -> sessions::PoolCounters {
        self.pools.counters(kind)
    }

    /// The counters of the feed of events.
    pub fn of_feed(&self) -> FeedCounters {
        self.feed.clone()
    }

    /// Where the state of the database is published.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

/// From half a millisecond, about the fastest commit, to the longest time that anything may take.
fn durations() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        120.0,
    ])
}

/// Sets a gauge from a count.
fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a service would measure.
    fn text() -> String {
        let metrics = Metrics::default();
        metrics.requests().route("GET", "/users/{id}").observe(200, std::time::Duration::ZERO);
        let _ = (metrics.of("self"), metrics.of_lanes("batched"), metrics.of_operations());
        let _ = [PoolKind::Changes, PoolKind::Reads].map(|kind| metrics.of_pool(kind));
        metrics.database().publish(Ok::<_, ()>(database::Sizes::default()));
        metrics.text(&Snapshot::default())
    }

    #[test]
    fn every_metric_has_a_help_and_a_type_and_the_unit_of_its_kind() {
        let text = text();
        let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(types.len() > 30, "{text}");
        for line in types {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(name.starts_with("plimsoll_"), "{name}");
            let help = format!("# HELP {name} ");
            let helps: Vec<_> = text.lines().filter(|line| line.starts_with(&help)).collect();
            assert_eq!(helps.len(), 1, "{name}");
            assert!(helps[0].len() > help.len() + 10, "{}", helps[0]);
            let is_of_batches = name.starts_with("plimsoll_batch_");
            match kind {
                "counter" => assert!(text.contains(&format!("\n{name}_total")), "{name}"),
                "histogram" if is_of_batches => {}
                "histogram" => assert!(name.ends_with("_seconds"), "{name}"),
                "gauge" | "info" => assert!(!name.ends_with("_total"), "{name}"),
                other => panic!("{name} is a {other}"),
            }
            for wrong in ["_ms", "_millis", "_micros", "_minutes", "_kb"] {
                assert!(!name.contains(wrong), "{name}");
            }
        }
    }

    #[test]
    fn the_build_is_shown() {
        let version = env!("CARGO_PKG_VERSION");
        let line = format!("plimsoll_build_info{{version=\"{version}\",commit=\"{COMMIT}\"}} 1\n");
        assert!(text().contains(&line));
    }
}
