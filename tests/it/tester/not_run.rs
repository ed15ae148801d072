//! A run that is prevented or interrupted prints no verdict, says why, and has its own exit code.

use serde_json::Value;

use super::faulty_service::{Answer, FaultyService, exact};
use super::running::{Tester, scratch_file};
use super::{BURST, is_of_the_burst, test};

#[tokio::test]
async fn a_token_is_sent_as_a_bearer() {
    let service = FaultyService::start_with_token(100, "s3cret", exact).await;
    let with = Tester::against(&service).args(BURST).args(&["--token", "s3cret"]).run().await;
    with.assert_code(0);
    let without = Tester::against(&service).args(BURST).run().await;
    without.assert_refused_to_run(2, "--token");
}

#[tokio::test]
async fn an_unknown_approach_is_bad_usage_before_any_burst() {
    let service = FaultyService::start(100, exact).await;
    let output = Tester::against(&service).args(BURST).args(&["--approach", "selb"]).run().await;
    output.assert_refused_to_run(2, "--approach selb: the service answers: Unknown approach");
    assert_eq!(service.balance(), 100, "the first approach must not have been tested yet");
}

#[tokio::test]
async fn an_unknown_user_is_bad_usage() {
    let service = FaultyService::start(100, exact).await;
    let output = Tester::against(&service).args(BURST).args(&["--user", "2"]).run().await;
    output.assert_refused_to_run(2, "--user 2: the service has no such user");
}

#[tokio::test]
async fn a_service_that_is_not_there_cannot_be_tested() {
    // Bound and dropped: a port that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = Tester::at(&url).run().await;
    output.assert_refused_to_run(3, &format!("{url} is not reachable"));
    let json = Tester::at(&url).args(&["--json"]).run().await;
    json.assert_code(3);
    let document: Value = serde_json::from_str(&json.stdout).expect("one JSON document");
    assert_eq!(document["verdict"], "could-not-run");
}

#[tokio::test]
async fn another_kind_of_server_is_told_apart_from_a_broken_balance() {
    let output = test(|_, _| Answer::Body(200, "<html>Welcome</html>".to_owned())).await;
    output.assert_refused_to_run(3, "200 <html>Welcome</html>");
}

#[tokio::test]
async fn somebody_else_at_the_same_balance_is_noticed_before_the_burst() {
    let service = FaultyService::start(50, |account, amount| {
        if amount == 0 {
            account.balance += 1;
        }
        exact(account, amount)
    })
    .await;
    let output = Tester::against(&service).args(BURST).run().await;
    output.assert_refused_to_run(3, "right after it was set to 100");
}

#[tokio::test]
async fn bad_usage_ends_with_2_and_names_the_flag() {
    for (arguments, named) in [
        (&["--amount", "0"][..], "--amount 0"),
        (&["--url", "https://127.0.0.1"], "--url"),
        (&["--connections", "20000", "--requests", "10"], "--connections"),
        (&["--colour"], "--colour"),
    ] {
        Tester::at("http://127.0.0.1:1")
            .args(arguments)
            .run()
            .await
            .assert_refused_to_run(2, named);
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_before_the_burst() {
    let service = FaultyService::start(100, exact).await;
    let nowhere = scratch_file("no-such-folder").join("responses.log");
    let output = Tester::against(&service).args(BURST).log(&nowhere).run().await;
    output.assert_refused_to_run(3, "(see --log)");
    assert_eq!(service.balance(), 100);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_nobody_asked_for_and_cannot_be_written_stops_nothing() {
    let service = FaultyService::start(100, exact).await;
    // Nobody, not even root, can create a file there.
    let output = Tester::against(&service).args(BURST).with_default_log_in("/proc").run().await;
    output.assert_code(0);
    output.assert_stdout_starts("PASS: ");
    assert!(!output.stdout.contains("responses.log"), "{output}");
    let said = "the answers are not logged, responses.log cannot be written: ";
    assert!(output.stderr.contains(said), "{output}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn too_few_open_files_are_explained_with_the_way_to_raise_them() {
    let output = Tester::with_open_files(200, "http://127.0.0.1:1").run().await;
    output.assert_refused_to_run(3, "ulimit -n 10064");
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_a_burst_with_130_and_no_verdict() {
    let service = FaultyService::start(100, |account, amount| {
        if is_of_the_burst(amount) { Answer::Never } else { exact(account, amount) }
    })
    .await;
    let running = Tester::against(&service).args(BURST).start();
    service.open_at_first_request().await;
    let output = running.interrupt().await;
    output.assert_refused_to_run(130, "interrupted");
}
