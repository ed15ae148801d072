//! The timings of one burst as numbers for the reports.

use crate::run::CheckedBurst;

/// The timings of one burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Figures {
    pub(crate) fn of(checked: &CheckedBurst) -> Self {
        let burst = &checked.burst;
        let seconds = burst.took.as_secs_f64();
        let answers = burst.latency_us.len();
        let ms = |microseconds: u64| microseconds as f64 / 1e3;
        let quantile_ms = |quantile| ms(burst.latency_us.value_at_quantile(quantile));
        Self {
            seconds,
            // Counts answers, not requests: an unanswered request is not throughput.
            requests_per_second: if seconds > 0.0 { answers as f64 / seconds } else { 0.0 },
            p50_ms: quantile_ms(0.5),
            p90_ms: quantile_ms(0.9),
            p99_ms: quantile_ms(0.99),
            max_ms: ms(burst.latency_us.max()),
        }
    }
}
