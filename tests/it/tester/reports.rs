//! The page, the histogram, and the comparison with a saved run.

use serde_json::Value;

use super::faulty_service::{Answer, FaultyService, exact};
use super::running::{Tester, scratch_file};
use super::{BURST, is_of_the_burst, test};

#[tokio::test]
async fn the_page_is_complete_in_itself_and_has_every_burst() {
    let page = scratch_file("report.html");
    let service = FaultyService::start(0, exact).await;
    let named = ["--approach", "self", "--approach", "batched", "--mixed"];
    let report = ["--report", page.to_str().unwrap()];
    let tester = Tester::against(&service).args(&["--requests", "100", "--balance", "100"]);
    tester.args(&named).args(&report).run().await.assert_code(0);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("PASS: every answer is exact"), "{page}");
    for name in ["self", "batched", "mixed"] {
        assert!(page.contains(&format!("<tr><td>{name}</td><td>50</td><td>50</td>")), "{name}");
    }
    assert_eq!(page.matches("<svg").count(), 2);
    for outside in ["<script", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[tokio::test]
async fn the_page_of_a_run_that_fails_shows_why() {
    let page = scratch_file("report.html");
    let service = FaultyService::start(100, |account, amount| match exact(account, amount) {
        Answer::Body(400, _) => Answer::error(400, "<b>no</b> & \"no\""),
        answer => answer,
    })
    .await;
    let report = ["--report", page.to_str().unwrap()];
    Tester::against(&service).args(BURST).args(&report).run().await.assert_code(1);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<h2>Violations: self</h2>"), "{page}");
    assert!(page.contains("&lt;b&gt;no&lt;/b&gt; &amp; "), "{page}");
    assert!(!page.contains("<b>"));
}

#[tokio::test]
async fn latencies_are_shown_over_one_axis() {
    let output = test(exact).await;
    output.assert_code(0);
    let mut lines = output.stdout.lines().skip_while(|line| !line.starts_with("latency"));
    let (axis, burst) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(axis.contains(" ms") || axis.contains(" µs"), "{output}");
    assert!(burst.starts_with("self ") && burst.contains('█'), "{output}");
}

#[tokio::test]
async fn a_run_is_compared_with_one_that_was_saved() {
    let baseline = scratch_file("baseline.json");
    let path = baseline.to_str().unwrap();
    let service = FaultyService::start(100, exact).await;
    let run = |arguments: &[&str]| Tester::against(&service).args(BURST).args(arguments).run();
    run(&["--save-baseline", path]).await.assert_code(0);
    run(&["--compare-with", path, "--threshold", "1000"]).await.assert_code(0);

    // As if it had been a thousand times as fast.
    let mut saved: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let rate = &mut saved["approaches"][0]["requestsPerSecond"];
    *rate = (rate.as_f64().unwrap() * 1_000.0).into();
    std::fs::write(path, saved.to_string()).unwrap();
    let slower = run(&["--compare-with", path, "--threshold", "1000"]).await;
    slower.assert_code(5);
    slower.assert_stdout_starts("PASS: ");
    assert!(slower.stdout.contains("WORSE"), "{slower}");

    // A slower run does not take the place of what it is slower than.
    let next = scratch_file("next.json");
    let save_as = next.to_str().unwrap();
    let saving = ["--compare-with", path, "--threshold", "1000", "--save-baseline", save_as];
    run(&saving).await.assert_code(5);
    assert!(!next.exists());

    let other = run(&["--compare-with", path, "--connections", "50"]).await;
    other.assert_refused_to_run(2, "its --connections is 100, and that of this run 50");

    saved["approaches"][0]["approach"] = "batched".into();
    std::fs::write(path, saved.to_string()).unwrap();
    let others = run(&["--compare-with", path]).await;
    others.assert_refused_to_run(2, "its bursts are batched, and those of this run self");
}

#[tokio::test]
async fn only_a_run_that_passes_is_saved_and_only_such_a_file_is_compared_with() {
    let baseline = scratch_file("baseline.json");
    let path = baseline.to_str().unwrap();
    let service = FaultyService::start(100, |_, _| Answer::error(500, "no")).await;
    let failing = FaultyService::start(100, |account, amount| match account.served {
        50 if is_of_the_burst(amount) => Answer::error(500, "no"),
        _ => exact(account, amount),
    })
    .await;
    let save = ["--save-baseline", path];
    Tester::against(&failing).args(BURST).args(&save).run().await.assert_code(1);
    assert!(!baseline.exists());
    std::fs::write(path, "{}").unwrap();
    let compare = ["--compare-with", path];
    let output = Tester::against(&service).args(BURST).args(&compare).run().await;
    output.assert_refused_to_run(2, "it must be a file that --save-baseline has written");
}
