//! A run that was saved, to compare later ones with.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::plan::{Plan, Work};

use crate::run::Run;

/// A run to compare with, and how much worse a new one may be.
#[derive(Debug, Clone)]
pub(crate) struct Comparand {
    pub(crate) path: PathBuf,
    baseline: Baseline,
    threshold_percent: f64,
}

/// What is needed of the report of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Baseline {
    verdict: String,
    requests: usize,
    connections: usize,
    balance: Option<i64>,
    amount: Option<i64>,
    #[serde(default, alias = "operations")]
    approaches: Vec<Measured>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    #[serde(alias = "operation")]
    approach: String,
    requests_per_second: f64,
    latency_ms: Latency,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Latency {
    p99: f64,
}

/// One burst beside the same one of the baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Compared {
    pub(crate) name: String,
    /// As parts of the baseline: 1.1 is a tenth more.
    pub(crate) requests_per_second: f64,
    pub(crate) p99: f64,
    /// Whether one of the two is worse by more than the threshold.
    pub(crate) is_worse: bool,
}

impl Comparand {
    /// Reads a saved run, and checks that this plan makes a comparable one.
    ///
    /// # Errors
    /// What is wrong with the file, or which setting differs.
    pub(crate) fn read(path: &Path, threshold_percent: f64, plan: &Plan) -> Result<Self, String> {
        let refused = |why: String| format!("--compare-with {}: {why}", path.display());
        let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let baseline: Baseline = serde_json::from_str(&text).map_err(|error| {
            refused(format!("it must be a file that --save-baseline has written: {error}"))
        })?;
        match baseline.difference(plan) {
            Some(difference) => Err(refused(difference)),
            None => Ok(Self { path: path.to_owned(), baseline, threshold_percent }),
        }
    }

    /// Each burst of the run. The baseline has the same ones, unless the run was stopped before.
    pub(crate) fn compare(&self, run: &Run) -> Vec<Compared> {
        let compared = run.bursts.iter().filter_map(|checked| {
            let before = self.baseline.approaches.iter().find(|m| m.approach == checked.name)?;
            let now = Figures::of(checked);
            let (rate, p99) = (now.requests_per_second, now.p99_ms);
            Some(self.beside(&checked.name, before, rate, p99))
        });
        compared.collect()
    }

    fn beside(&self, name: &str, before: &Measured, rate: f64, p99_ms: f64) -> Compared {
        let allowed = 1.0 + self.threshold_percent / 100.0;
        let requests_per_second = rate / before.requests_per_second;
        let p99 = p99_ms / before.latency_ms.p99;
        // Where nothing was answered the ratio is no number, which is worse than any.
        let is_fine = requests_per_second * allowed >= 1.0 && p99 <= allowed;
        Compared { name: name.to_owned(), requests_per_second, p99, is_worse: !is_fine }
    }
}

impl Baseline {
    fn names(&self) -> Vec<&str> {
        self.approaches.iter().map(|measured| measured.approach.as_str()).collect()
    }

    fn difference(&self, plan: &Plan) -> Option<String> {
        let (balance, amount) = match &plan.work {
            Work::Changes(changes) => (Some(changes.terms.start), Some(changes.terms.amount)),
            Work::Operations => (None, None),
        };
        if self.verdict != "pass" {
            return Some(format!("that run did not pass (its verdict is {})", self.verdict));
        }
        let (before, now) = (self.names(), plan.work.names());
        if before != now {
            return Some(format!(
                "its bursts are {}, and those of this run {}",
                before.join(", "),
                now.join(", ")
            ));
        }
        let number = |number: Option<i64>| number.map_or("none".to_owned(), |n| n.to_string());
        let settings = [
            ("--requests", self.requests.to_string(), plan.requests.to_string()),
            ("--connections", self.connections.to_string(), plan.connections.to_string()),
            ("--balance", number(self.balance), number(balance)),
            ("--amount", number(self.amount), number(amount)),
        ];
        let differs = settings.into_iter().find(|(_, before, now)| before != now);
        differs.map(|(flag, before, now)| {
            format!("its {flag} is {before}, and that of this run {now}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparand(threshold_percent: f64) -> Comparand {
        let text = r#"{"verdict":"pass","requests":10,"connections":5,"balance":1,"amount":-2,
            "approaches":[{"approach":"self","requestsPerSecond":1000.0,"latencyMs":{"p50":1.0,"p99":20.0}}]}"#;
        let baseline = serde_json::from_str(text).unwrap();
        Comparand { path: PathBuf::new(), baseline, threshold_percent }
    }

    #[test]
    fn a_run_is_worse_when_it_is_slower_than_the_threshold_allows() {
        let comparand = comparand(25.0);
        let before = &comparand.baseline.approaches[0];
        for (rate, p99_ms, is_worse) in [
            (1_000.0, 20.0, false),
            (800.0, 25.0, false),
            (799.0, 20.0, true),
            (1_000.0, 25.1, true),
            (5_000.0, 1.0, false),
            (0.0, 0.0, true),
            (f64::NAN, 1.0, true),
        ] {
            let compared = comparand.beside("self", before, rate, p99_ms);
            assert_eq!(compared.is_worse, is_worse, "{rate} {p99_ms}");
        }
    }

    #[test]
    fn the_report_of_operations_is_a_baseline_as_well() {
        let text = r#"{"verdict":"pass","requests":10,"connections":5,
            "operations":[{"operation":"transfers","requestsPerSecond":1.0,"latencyMs":{"p99":2.0}}]}"#;
        let baseline: Baseline = serde_json::from_str(text).unwrap();
        assert_eq!(baseline.approaches[0].approach, "transfers");
    }
}
