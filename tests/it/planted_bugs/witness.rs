//! Runs the real executable against a service, and reads its report.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::bug::Bug;

/// The load, the retries of what is unknown at its end, and the final read are a minute each at most.
const PATIENCE: Duration = Duration::from_secs(200);

pub(super) struct Report {
    pub(super) code: Option<i32>,
    /// The kinds of violations.
    pub(super) kinds: Vec<String>,
    pub(super) took: Duration,
    pub(super) text: String,
}

impl Report {
    /// One line.
    #[expect(clippy::print_stdout, reason = "`make planted` shows how each bug was caught")]
    pub(super) fn print(&self, bug: Bug, seed: u64, took: Duration) {
        let (seconds, kinds) = (took.as_secs_f64(), self.kinds.join(", "));
        println!("planted {bug:?}, seed {seed}: caught after {seconds:.1} s by {kinds}");
    }

    /// It has failed, for one of these reasons.
    #[track_caller]
    pub(super) fn assert_caught(&self, expected: &[&str]) {
        let is_expected = self.kinds.iter().any(|kind| expected.contains(&&**kind));
        assert_eq!((self.code, is_expected), (Some(1), true), "{}", self.text);
    }
}

pub(super) async fn run(url: &str, seed: u64, requests: usize) -> Report {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_concurrency-tester"));
    command.args(["witness", "--json", "--seconds", "60", "--url", url]);
    command.args(["--seed", &seed.to_string(), "--requests", &requests.to_string()]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it is bounded in time").unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&stdout).unwrap_or_default();
    let mut kinds = Vec::new();
    collect_kinds(&report, &mut kinds);
    let errors = String::from_utf8(output.stderr).unwrap();
    Report {
        code: output.status.code(),
        kinds,
        took: began.elapsed(),
        text: format!("{stdout}\n{errors}"),
    }
}

/// The kinds in every list of violations, wherever it is.
fn collect_kinds(report: &Value, kinds: &mut Vec<String>) {
    match report {
        Value::Object(members) => {
            for (name, value) in members {
                if name == "violations" {
                    let found = value.as_array().into_iter().flatten();
                    kinds.extend(found.filter_map(|v| v["kind"].as_str()).map(str::to_owned));
                } else {
                    collect_kinds(value, kinds);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_kinds(value, kinds)),
        _ => {}
    }
}
