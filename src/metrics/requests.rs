//! Requests by route and status, with their durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::durations;

/// The metrics of all requests and connections.
pub(crate) struct Requests {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    connections: Gauge,
    loads: Mutex<Vec<Arc<Load>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

impl Requests {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            loads: Mutex::default(),
        };
        registry.register(
            "http_requests",
            "Requests that were responded to, by route and status",
            all.requests.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to the head of its response",
            all.durations.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests whose response is not complete, streams among them",
            all.in_flight.clone(),
        );
        registry.register(
            "http_connections_open",
            "Connections that are open, idle ones among them",
            all.connections.clone(),
        );
        all
    }

    /// The metrics of one route. From now on it is shown, even at zero.
    pub(crate) fn route(&self, method: &'static str, route: &str) -> RouteCounters {
        let durations =
            self.durations.get_or_create_owned(&RouteLabels { method, route: route.to_owned() });
        let counters = RouteCounters {
            requests: self.requests.clone(),
            method,
            route: route.to_owned(),
            by_status: [const { OnceLock::new() }; STATUSES.len()],
            durations,
        };
        // A rate cannot see the first of them where the counter was not there before.
        for status in [500, 503, 504] {
            counters.counter(status, |_| {});
        }
        counters
    }

    /// What one thread has to do at the moment.
    pub(crate) fn load(&self) -> Arc<Load> {
        let load = Arc::default();
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.push(Arc::clone(&load));
        load
    }

    pub(super) fn refresh(&self) {
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |count: fn(&Load) -> u64| {
            let all: u64 = loads.iter().map(|load| count(load)).sum();
            i64::try_from(all).unwrap_or(i64::MAX)
        };
        self.in_flight.set(sum(|load| load.requests.open()));
        self.connections.set(sum(|load| load.connections.open()));
    }
}

/// The statuses whose counters are found without a lock: nearly all that the service gives.
const STATUSES: [u16; 18] =
    [200, 201, 400, 404, 409, 422, 503, 504, 500, 401, 403, 405, 408, 413, 415, 417, 429, 431];

/// The metrics of one route.
pub(crate) struct RouteCounters {
    requests: Family<RequestLabels, Counter>,
    method: &'static str,
    route: String,
    by_status: [OnceLock<Counter>; STATUSES.len()],
    durations: Histogram,
}

impl RouteCounters {
    /// Counts a response.
    pub(crate) fn observe(&self, status: u16, took: Duration) {
        self.counter(status, |counter| {
            counter.inc();
        });
        self.durations.observe(took.as_secs_f64());
    }

    fn counter(&self, status: u16, with: impl FnOnce(&Counter)) {
        let labels = || RequestLabels { method: self.method, route: self.route.clone(), status };
        let position = STATUSES.iter().position(|known| *known == status);
        match position.map(|position| &self.by_status[position]) {
            Some(known) => {
                with(known.get_or_init(|| self.requests.get_or_create_owned(&labels())));
            }
            None => with(&self.requests.get_or_create(&labels())),
        }
    }
}

/// What one thread has to do at the moment. Only that thread changes it, so that no two threads wait for
/// the same line of memory.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) requests: Level,
    pub(crate) connections: Level,
}

/// How many of something have begun and have not ended.
#[derive(Debug, Default)]
pub(crate) struct Level {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Level {
    /// One more has begun.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them has ended.
    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn open(&self) -> u64 {
        // In this order, so that one that ends in between is not counted as negative.
        let ended = self.ended.load(Ordering::Relaxed);
        self.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }
}
