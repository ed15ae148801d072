//! How a failure is logged, and how often.
//!
//! A failure is one line. While the database is away, though, each of 40,000 requests a second fails for
//! the same reason, and 40,000 lines a second would fill a disk within hours, when it is needed most, and
//! tell nothing that the first of them does not. So each cause has some lines a second, all causes
//! together have some more, and what is left out is counted in one line at the end of the second. At 300
//! bytes a line that is 300 MB a day of one cause that never ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};

use crate::http::error::Reason;
use crate::ledger::UserId;

/// The lines of one cause in one second.
const LINES_OF_CAUSE: u64 = 10;

/// The lines of all causes in one second, without the summaries.
const LINES_MAX: u64 = 50;

/// The causes that are told apart within one second. Their texts are kept until it has ended.
const CAUSES_MAX: usize = 32;

/// The cause of those beyond [`CAUSES_MAX`].
const OTHERS: &str = "other causes";

const PERIOD: Duration = Duration::from_secs(1);

/// The log of failed requests. Clones share its bounds.
#[derive(Clone, Default)]
pub struct FailureLog(Arc<Mutex<Second>>);

/// What was logged in the current second.
#[derive(Default)]
struct Second {
    lines: u64,
    causes: HashMap<(StatusCode, String), OfCause>,
}

#[derive(Default)]
struct OfCause {
    lines: u64,
    /// Left out.
    more: u64,
}

/// A line about a failed request.
pub(super) struct Line<'a> {
    pub(super) request_id: Option<&'a str>,
    pub(super) trace_id: Option<&'a str>,
    pub(super) method: &'a str,
    pub(super) route: &'a str,
    pub(super) operation: &'a str,
    pub(super) approach: Option<&'a str>,
    pub(super) caller: Option<&'a str>,
    pub(super) took: Duration,
    pub(super) reason: &'a Reason,
}

impl FailureLog {
    /// Logs what was left out, once a second, until the future is dropped.
    pub async fn run(self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.summarize();
        }
    }

    /// Logs what was left out, and begins a new second.
    pub fn summarize(&self) {
        let Second { causes, .. } = std::mem::take(&mut *self.lock());
        for ((status, cause), OfCause { more, .. }) in causes {
            if more > 0 {
                let status = status.as_u16();
                warn!(status, cause, more, "… more requests failed in this second");
            }
        }
    }

    pub(super) fn write(&self, line: &Line<'_>) {
        let cause = line.reason.cause();
        if self.admits(line.reason.status, &cause) {
            line.write(&cause);
        }
    }

    fn admits(&self, status: StatusCode, cause: &str) -> bool {
        let mut second = self.lock();
        let Second { lines, causes } = &mut *second;
        let mut key = (status, cause.to_owned());
        if causes.len() >= CAUSES_MAX && !causes.contains_key(&key) {
            key = (status, OTHERS.to_owned());
        }
        let of_cause = causes.entry(key).or_default();
        let admits = of_cause.lines < LINES_OF_CAUSE && *lines < LINES_MAX;
        let counted = if admits { &mut of_cause.lines } else { &mut of_cause.more };
        *counted += 1;
        *lines += u64::from(admits);
        admits
    }

    fn lock(&self) -> MutexGuard<'_, Second> {
        // Nothing that runs under the lock can leave the counts half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line<'_> {
    /// A 500 is a mistake of the service or of its database: somebody has to look. A 503 or a 504 passes.
    fn write(&self, cause: &str) {
        /// The level of an event has to be a constant.
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    request_id = self.request_id,
                    trace_id = self.trace_id,
                    method = self.method,
                    route = self.route,
                    operation = self.operation,
                    approach = self.approach,
                    user = self.reason.user.map(UserId::get),
                    caller = self.caller,
                    status = self.reason.status.as_u16(),
                    items = self.reason.items,
                    duration_ms = self.duration_ms(),
                    cause,
                    "a request failed"
                )
            };
        }
        if self.reason.status == StatusCode::INTERNAL_SERVER_ERROR {
            line!(error);
        } else {
            line!(warn);
        }
    }

    /// With whole microseconds.
    fn duration_ms(&self) -> f64 {
        (self.took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

    fn admitted(log: &FailureLog, cause: &str, count: u64) -> u64 {
        (0..count).map(|_| u64::from(log.admits(UNAVAILABLE, cause))).sum()
    }

    fn left_out(log: &FailureLog) -> u64 {
        log.lock().causes.values().map(|of_cause| of_cause.more).sum()
    }

    #[test]
    fn a_cause_has_some_lines_a_second_and_the_rest_is_counted() {
        let log = FailureLog::default();
        assert_eq!(admitted(&log, "away", 40_000), LINES_OF_CAUSE);
        assert_eq!(left_out(&log), 40_000 - LINES_OF_CAUSE);
        assert_eq!(admitted(&log, "another", 3), 3, "a flood hides no other cause");
        assert!(log.admits(StatusCode::GATEWAY_TIMEOUT, "away"), "nor another status");
        log.summarize();
        assert_eq!(left_out(&log), 0);
        assert_eq!(admitted(&log, "away", 11), LINES_OF_CAUSE, "a new second");
    }

    #[test]
    fn causes_that_differ_each_time_are_bounded_together() {
        let log = FailureLog::default();
        let lines: u64 = (0..40_000).map(|number| admitted(&log, &number.to_string(), 1)).sum();
        assert!(lines <= LINES_MAX, "{lines}");
        assert_eq!(lines + left_out(&log), 40_000);
        assert!(log.lock().causes.len() <= CAUSES_MAX + 1);
    }
}
