//! The feed of events: who watches, how much is sent, and how late.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{durations, set};

/// What the feed and its streams measure. Clones share it.
#[derive(Clone)]
pub struct FeedCounters {
    streams: Gauge,
    users: Gauge,
    sent: Counter,
    pages: Counter,
    polls: Histogram,
    lag: Histogram,
}

impl FeedCounters {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self {
            streams: Gauge::default(),
            users: Gauge::default(),
            sent: Counter::default(),
            pages: Counter::default(),
            polls: durations(),
            lag: durations(),
        };
        registry.register("event_streams", "Streams of events that are open", all.streams.clone());
        registry.register("watched_users", "Users that a stream watches", all.users.clone());
        registry.register("events_sent", "Entries that were sent to a stream", all.sent.clone());
        registry.register(
            "feed_pages",
            "Pages of the journal that were read for a stream which had resumed or fallen behind",
            all.pages.clone(),
        );
        registry.register(
            "feed_poll_seconds",
            "Time of a question for the new entries of watched users, of all or of those with more than a share",
            all.polls.clone(),
        );
        registry.register(
            "event_lag_seconds",
            "Age of the oldest new entry of a watched user when it was read, by the database's clock",
            all.lag.clone(),
        );
        all
    }

    /// A stream is open until the result is dropped.
    pub(crate) fn stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }

    /// So many users are watched now.
    pub(crate) fn set_users(&self, count: usize) {
        set(&self.users, count);
    }

    /// So many entries go to a stream.
    pub(crate) fn add_sent(&self, entries: u64) {
        self.sent.inc_by(entries);
    }

    /// A page was read.
    pub(crate) fn add_page(&self) {
        self.pages.inc();
    }

    /// The database has answered a question for new entries, or has failed.
    pub(crate) fn observe_poll(&self, took: Duration) {
        self.polls.observe(took.as_secs_f64());
    }

    /// So old was the oldest new entry of a user.
    pub(crate) fn observe_lag(&self, lag: Duration) {
        self.lag.observe(lag.as_secs_f64());
    }
}

/// An open stream, which is counted until this is dropped.
pub(crate) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
