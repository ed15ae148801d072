//! The numbers of one moment, read from the text of `GET /metrics`. So a chart and a scrape cannot differ, and
//! nothing is counted twice.

use std::ops::{Add, Sub};

/// What the charts are made of. All but the levels only grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) outcomes: Outcomes,
    /// Requests that may change something, by their time.
    pub(super) requests: Buckets,
    /// Changes in a batch.
    pub(super) batches: Buckets,
    /// Times of the lanes' requests to the database.
    pub(super) statements: Buckets,
    pub(super) levels: Levels,
}

/// Changes and operations, by how they ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcomes {
    pub(super) accepted: f64,
    pub(super) refused: f64,
    pub(super) replayed: f64,
    pub(super) rejected: f64,
    /// Had no effect, because the service was busy or could not reach its database: 503.
    pub(super) not_applied: f64,
    /// Perhaps applied (504), or a fault of the service.
    pub(super) failed: f64,
}

/// How much there is of something at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Levels {
    pub(super) in_lanes: f64,
    pub(super) for_sessions: f64,
    pub(super) in_flight: f64,
    pub(super) changes_in_use: f64,
    pub(super) reads_in_use: f64,
    pub(super) sessions_max: f64,
    pub(super) connections: f64,
}

/// A histogram: how many were at most as large as each bound, the last of which is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets {
    counts: Vec<(f64, f64)>,
    sum: f64,
}

impl Sample {
    /// Reads the text of the metrics. What it does not have stays 0.
    pub(super) fn of(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter_map(Line::of) {
            sample.add(&line);
        }
        sample
    }

    fn add(&mut self, line: &Line<'_>) {
        let Line { name, value, .. } = *line;
        let levels = &mut self.levels;
        match name {
            "changes_total" | "operations_total" => self.outcomes.add(line),
            "lane_queue" | "operation_queue" => levels.in_lanes += value,
            "sessions_waiting" => levels.for_sessions += value,
            "http_requests_in_flight" => levels.in_flight = value,
            "http_connections_open" => levels.connections = value,
            "sessions_max" => levels.sessions_max += value,
            "sessions_in_use" if line.label("pool") == Some("changes") => {
                levels.changes_in_use = value;
            }
            "sessions_in_use" => levels.reads_in_use = value,
            "batch_changes_bucket" => self.batches.add(line),
            "batch_changes_sum" => self.batches.sum += value,
            "lane_batch_seconds_bucket" => self.statements.add(line),
            "http_request_duration_seconds_bucket" if line.label("method") != Some("GET") => {
                self.requests.add(line);
            }
            _ => {}
        }
    }
}

impl Outcomes {
    fn add(&mut self, line: &Line<'_>) {
        let count = match line.label("outcome") {
            Some("accepted") => &mut self.accepted,
            Some("refused") => &mut self.refused,
            Some("replayed") => &mut self.replayed,
            Some("rejected") => &mut self.rejected,
            Some("not_applied") => &mut self.not_applied,
            _ => &mut self.failed,
        };
        *count += line.value;
    }
}

impl Buckets {
    fn add(&mut self, line: &Line<'_>) {
        let bound = line.label("le").and_then(|bound| match bound {
            "+Inf" => Some(f64::INFINITY),
            bound => bound.parse().ok(),
        });
        let Some(bound) = bound else { return };
        match self.counts.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
            Some((_, count)) => *count = count.add(line.value),
            None => self.counts.push((bound, line.value)),
        }
    }

    /// What was added since an earlier sample.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |place: usize| earlier.counts.get(place).map_or(0.0, |(_, count)| *count);
        let counts = self.counts.iter().enumerate();
        Self {
            counts: counts.map(|(place, (le, count))| (*le, count.sub(before(place)))).collect(),
            sum: self.sum - earlier.sum,
        }
    }

    fn count(&self) -> f64 {
        self.counts.last().map_or(0.0, |(_, count)| *count)
    }

    /// `None` where there is nothing.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count() > 0.0).then(|| self.sum / self.count())
    }

    /// The value that a share of all does not exceed, as exact as the bounds are. `None` where there is nothing.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let rank = self.count() * share;
        let mut lower = (0.0, 0.0);
        for (bound, count) in &self.counts {
            if *count >= rank && *count > lower.1 {
                // Beyond the last bound nothing is known but that.
                let bound = if bound.is_finite() { *bound } else { lower.0 };
                return Some(lower.0 + (bound - lower.0) * (rank - lower.1) / (count - lower.1));
            }
            lower = (*bound, *count);
        }
        None
    }
}

/// A line of the text.
struct Line<'a> {
    /// Without the prefix of the service.
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix("plimsoll_")?;
        let (head, value) = text.rsplit_once(' ')?;
        let (name, labels) = head.split_once('{').unwrap_or((head, ""));
        Some(Self { name, labels, value: value.parse().ok()? })
    }

    /// No value here has a quotation mark in it.
    fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        while let Some((label, after)) = rest.split_once("=\"") {
            let (value, others) = after.split_once('"')?;
            if label.trim_start_matches(',') == name {
                return Some(value);
            }
            rest = others;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::sessions::PoolUse;
    use crate::metrics::{Metrics, QueueUse, Snapshot};
    use std::time::Duration;

    /// Rounded: floats have no equality worth the name.
    fn whole(value: f64) -> String {
        format!("{value:.3}")
    }

    #[test]
    fn everything_is_found_in_the_text_that_a_scrape_gets() {
        let metrics = Metrics::default();
        metrics.of("batched").count(&Err(crate::ledger::ChangeError::Busy("")));
        metrics.of_operations();
        let lane = metrics.of_lanes("batched");
        lane.observe_size(3);
        lane.observe_batch(Duration::from_millis(2));
        let observe = |method, took| {
            let route = metrics.requests().route(method, "/users/{id}");
            route.observe(200, Duration::from_millis(took));
        };
        observe("GET", 9_000);
        observe("PATCH", 3);
        observe("POST", 4);
        let used = PoolUse { max: 8, open: 5, in_use: 3, waiting: 2 };
        let queue = QueueUse { queued: 7, max: 9 };
        let snapshot = Snapshot { changes: queue, operations: queue, pools: [used, used] };
        let sample = Sample::of(&metrics.text(&snapshot));
        assert_eq!(whole(sample.outcomes.not_applied), "1.000");
        assert_eq!(whole(sample.outcomes.failed), "0.000");
        assert_eq!(whole(sample.outcomes.accepted), "0.000");
        assert_eq!(sample.batches.mean().map(whole).as_deref(), Some("3.000"));
        assert_eq!(whole(sample.requests.count()), "2.000");
        assert_eq!(sample.requests.quantile(1.0).map(whole).as_deref(), Some("0.005"));
        assert_eq!(sample.statements.quantile(0.5).map(whole).as_deref(), Some("0.002"));
        let levels = sample.levels;
        let of_levels = [levels.in_lanes, levels.for_sessions, levels.sessions_max].map(whole);
        assert_eq!(of_levels, ["14.000", "4.000", "16.000"]);
        assert_eq!([levels.changes_in_use, levels.reads_in_use].map(whole), ["3.000", "3.000"]);
    }

    #[test]
    fn quantiles_are_between_the_bounds() {
        let counts = vec![(1.0, 10.0), (2.0, 10.0), (4.0, 20.0), (f64::INFINITY, 21.0)];
        let all = Buckets { counts, sum: 50.0 };
        let of = |share| all.quantile(share).map(whole);
        assert_eq!(of(0.25).as_deref(), Some("0.525"));
        assert_eq!(of(0.75).as_deref(), Some("3.150"));
        assert_eq!(of(1.0).as_deref(), Some("4.000"));
        assert_eq!(Buckets::default().quantile(0.5), None);
        assert_eq!(all.since(&all).quantile(0.5), None);
        assert_eq!(all.since(&all).mean(), None);
    }
}
