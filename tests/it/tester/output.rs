//! The output: the log, the JSON document, the help.

use std::path::Path;

use serde_json::Value;

use super::faulty_service::{Answer, FaultyService, exact};
use super::running::{Tester, scratch_file};
use super::{BURST, is_of_the_burst, test};

#[tokio::test]
async fn the_log_has_every_answer_and_then_the_repeated_ones() {
    let output = test(exact).await;
    let log = std::fs::read_to_string(&output.log).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines[0], "== self: 100 answers");
    let mut balances = Vec::new();
    for (index, line) in lines[1..=100].iter().enumerate() {
        let answer = line.strip_prefix(&format!("{}: ", index + 1)).expect(line);
        match answer.strip_prefix(r#"200 {"balance":"#) {
            Some(rest) => balances.push(rest.trim_end_matches('}').parse::<i64>().unwrap()),
            None => assert_eq!(answer, r#"400 {"error":"Insufficient funds"}"#),
        }
    }
    balances.sort_unstable();
    assert_eq!(balances, (0..50).map(|k| 2 * k).collect::<Vec<_>>());
    assert_eq!(
        lines[101..],
        ["", "== self: repeated answers", r#"50 times: 400 {"error":"Insufficient funds"}"#, ""]
    );
}

#[tokio::test]
async fn the_log_has_one_section_for_each_burst_and_nothing_of_the_run_before() {
    let service = FaultyService::start(100, exact).await;
    let log = scratch_file("two-runs");
    std::fs::write(&log, "of the run before\n").unwrap();
    let all = &["--requests", "10", "--balance", "10"];
    Tester::against(&service).args(all).log(&log).run().await.assert_code(0);
    let sections = headings(&log);
    let expected: Vec<_> = plimsoll::approach::registry::names()
        .chain(["mixed"])
        .flat_map(|name| [format!("== {name}: 10 answers"), format!("== {name}: repeated answers")])
        .collect();
    assert_eq!(sections, expected);
    assert!(!std::fs::read_to_string(&log).unwrap().contains("of the run before"));
}

fn headings(log: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(log).unwrap();
    log.lines().filter(|line| line.starts_with("==")).map(str::to_owned).collect()
}

#[tokio::test]
async fn json_is_one_document_and_alone_on_standard_output() {
    let service = FaultyService::start(100, exact).await;
    let output = Tester::against(&service).args(BURST).args(&["--json"]).run().await;
    output.assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).expect("one JSON document");
    assert_eq!(document["verdict"], "pass");
    assert_eq!(document["stopped"], Value::Null);
    let approach = &document["approaches"][0];
    assert_eq!(approach["approach"], "self");
    assert_eq!((&approach["accepted"], &approach["finalBalance"]), (&50.into(), &0.into()));
    assert!(approach["latencyMs"]["p99"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn json_names_the_violations_for_programs() {
    let service = FaultyService::start(100, |account, amount| {
        if is_of_the_burst(amount) && account.served == 3 {
            return Answer::error(500, "Internal server error");
        }
        exact(account, amount)
    })
    .await;
    let output = Tester::against(&service).args(BURST).args(&["--json"]).run().await;
    output.assert_code(1);
    let document: Value = serde_json::from_str(&output.stdout).expect("one JSON document");
    assert_eq!(document["verdict"], "fail");
    let violation = &document["approaches"][0]["violations"][0];
    assert_eq!((&violation["kind"], &violation["count"]), (&"status-500".into(), &1.into()));
}

#[tokio::test]
async fn help_has_examples_and_the_exit_codes() {
    let output = Tester::bare().args(&["--help"]).run().await;
    output.assert_code(0);
    for part in ["Examples:", "Exit codes:", "--connections", "--timeout", "--operations"] {
        assert!(output.stdout.contains(part), "{part} is missing:\n{}", output.stdout);
    }
}
