//! `--operations`: PASS for a correct service, FAIL with the reason for each broken one.

use serde_json::Value;

use super::faulty_service::{FaultyService, exact};
use super::ledger::Fault;
use super::running::{Tester, TesterOutput};

/// Few requests, yet each kind of operation is accepted and refused many times.
const OPERATIONS: &[&str] = &["--operations", "--requests", "1000"];

async fn test(fault: Option<Fault>) -> TesterOutput {
    let service = FaultyService::start_ledger(fault, None).await;
    Tester::against(&service).args(OPERATIONS).run().await
}

/// The verdict names the burst and the violation.
async fn assert_found(fault: Fault, burst: &str, violation: &str) {
    let output = test(Some(fault)).await;
    output.assert_code(1);
    let verdict = output.stdout.lines().next().unwrap_or_default();
    let of_burst = verdict
        .trim_start_matches("FAIL: ")
        .split("; ")
        .find(|reasons| reasons.starts_with(&format!("{burst}: ")));
    assert!(of_burst.is_some_and(|reasons| reasons.contains(violation)), "{output}");
}

#[tokio::test]
async fn a_service_that_is_right_passes_every_burst() {
    let output = test(None).await;
    output.assert_code(0);
    output.assert_stdout_starts("PASS: every answer is exact: ");
    let rows: Vec<Vec<_>> =
        output.stdout.lines().skip(2).take(6).map(|l| l.split_whitespace().collect()).collect();
    let names: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, ["operations", "transfers", "merchant", "reservations", "captures", "bulks"]);
    for row in &rows[1..] {
        let [requests, applied, accepted, refused, undecided, wrong] =
            std::array::from_fn(|column| row[column + 1].parse::<usize>().unwrap());
        assert!(applied > 0 && accepted >= applied && refused > 0, "{output}");
        assert_eq!((undecided, wrong), (0, 0), "{output}");
        assert_eq!(requests, if row[0] == "bulks" { 50 } else { 1_000 }, "{output}");
    }
}

#[tokio::test]
async fn an_operation_that_is_applied_twice_is_found() {
    assert_found(Fault::ApplyTwice, "transfers", "1 × operation applied more than once").await;
}

#[tokio::test]
async fn a_payee_who_gets_nothing_is_found() {
    assert_found(Fault::LosePayee, "transfers", "1 × operation applied in part").await;
}

#[tokio::test]
async fn a_hold_that_is_resolved_twice_is_found() {
    assert_found(Fault::ResolveTwice, "captures", "1 × hold resolved once more").await;
}

#[tokio::test]
async fn results_of_a_bulk_in_another_order_are_found() {
    assert_found(Fault::SwapResults, "bulks", "× answer that contradicts its entry").await;
}

#[tokio::test]
async fn a_key_that_is_forgotten_is_found() {
    assert_found(Fault::ForgetKeys, "transfers", "× different answer to the same key").await;
}

#[tokio::test]
async fn lost_answers_are_reported_and_nothing_else_is() {
    let service = FaultyService::start_ledger(None, Some(50)).await;
    let output = Tester::against(&service).args(OPERATIONS).args(&["--json"]).run().await;
    output.assert_code(1);
    let document: Value = serde_json::from_str(&output.stdout).expect("one JSON document");
    for burst in document["operations"].as_array().unwrap() {
        assert!(burst["undecided"].as_u64().unwrap() > 0 || burst["operation"] == "bulks");
        for violation in burst["violations"].as_array().unwrap() {
            assert_eq!(violation["kind"], "connection-lost", "{burst:#}");
        }
    }
}

#[tokio::test]
async fn json_has_the_counts_of_every_burst() {
    let service = FaultyService::start_ledger(None, None).await;
    let output = Tester::against(&service).args(OPERATIONS).args(&["--json"]).run().await;
    output.assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).expect("one JSON document");
    assert_eq!(document["verdict"], "pass");
    assert_eq!((&document["userId"], &document["approaches"]), (&Value::Null, &Value::Null));
    let bursts = document["operations"].as_array().unwrap();
    assert_eq!(bursts.len(), 5);
    assert_eq!(bursts[0]["operation"], "transfers");
    for count in ["requests", "applied", "accepted", "refused", "undecided", "wrong"] {
        assert!(bursts[0][count].is_u64(), "{count}");
    }
}

#[tokio::test]
async fn the_log_has_every_request_with_its_answer() {
    let output = test(None).await;
    let log = std::fs::read_to_string(&output.log).unwrap();
    let begin = log.lines().nth(1).unwrap();
    assert!(begin.starts_with("1: POST /transfers {\"from\":"), "{begin}");
    for name in ["transfers", "merchant", "reservations", "captures", "bulks"] {
        assert!(log.contains(&format!("== {name}: ")), "{name}");
    }
}

#[tokio::test]
async fn a_service_without_operations_is_refused() {
    let service = FaultyService::start(0, exact).await;
    let output = Tester::against(&service).args(OPERATIONS).run().await;
    output.assert_refused_to_run(2, "--operations: the service has no transfers");
}

#[tokio::test]
async fn operations_have_users_of_their_own() {
    let output = Tester::at("http://127.0.0.1:1").args(OPERATIONS).args(&["--user", "1"]);
    output.run().await.assert_refused_to_run(2, "--operations");
}
