//! PASS for a correct service, FAIL with the reason for each broken one.

use super::faulty_service::{Answer, FaultyService, exact};
use super::running::Tester;
use super::{BURST, is_of_the_burst, test};

#[tokio::test]
async fn a_service_that_is_right_passes() {
    let output = test(exact).await;
    output.assert_code(0);
    output.assert_stdout_starts("PASS: every answer is exact: of 100 simultaneous changes by -2");
    let table: Vec<_> = output.stdout.lines().skip(2).take(2).collect();
    let headings: Vec<_> = table[0].split("  ").map(str::trim).filter(|h| !h.is_empty()).collect();
    assert_eq!(
        headings,
        [
            "approach",
            "accepted",
            "refused",
            "wrong",
            "seconds",
            "requests/s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "max ms"
        ]
    );
    assert_eq!(table[1].split_whitespace().take(4).collect::<Vec<_>>(), ["self", "50", "50", "0"]);
}

#[tokio::test]
async fn the_balance_is_set_before_each_approach_and_before_the_mix_of_all() {
    let service = FaultyService::start(7, exact).await;
    let output =
        Tester::against(&service).args(&["--requests", "100", "--balance", "100"]).run().await;
    output.assert_code(0);
    for approach in plimsoll::approach::registry::names().chain(["mixed"]) {
        let row = output.stdout.lines().find(|line| line.starts_with(&format!("{approach} ")));
        let figures: Vec<_> = row.expect(approach).split_whitespace().skip(1).take(3).collect();
        assert_eq!(figures, ["50", "50", "0"], "{approach}");
    }
}

#[tokio::test]
async fn a_mixed_burst_goes_through_all_of_its_approaches() {
    let service = FaultyService::start(0, exact).await;
    let named = ["--approach", "self", "--approach", "batched", "--mixed"];
    Tester::against(&service).args(&named).args(&["--requests", "100"]).run().await.assert_code(0);
    // 100 requests alone, and half of the 100 mixed ones.
    assert_eq!(service.burst(), [("batched".into(), 150), ("self".into(), 150)].into());
}

#[tokio::test]
async fn fewer_connections_than_requests_share_them_one_after_another() {
    let service = FaultyService::start(0, exact).await;
    let output = Tester::against(&service).args(BURST).args(&["--connections", "7"]).run().await;
    output.assert_code(0);
    assert!(service.open_at_once_max() <= 8, "{} connections", service.open_at_once_max());
}

#[tokio::test]
async fn every_connection_is_open_before_the_first_request() {
    let service = FaultyService::start(100, exact).await;
    Tester::against(&service).args(BURST).run().await.assert_code(0);
    assert!(service.open_at_first_request().await >= 100);
}

#[tokio::test]
async fn deposits_are_all_accepted() {
    let service = FaultyService::start(100, exact).await;
    let output = Tester::against(&service).args(BURST).args(&["--amount", "5"]).run().await;
    output.assert_code(0);
    output
        .assert_stdout_starts("PASS: every answer is exact: of 100 simultaneous changes by 5, 100");
}

#[tokio::test]
async fn a_lost_update_fails() {
    let output = test(|account, amount| {
        let before = account.balance;
        let answer = exact(account, amount);
        if is_of_the_burst(amount) && account.served == 7 {
            account.balance = before;
        }
        answer
    })
    .await;
    output.assert_fails_with(&["1 × balance answered again (a lost update)"]);
}

#[tokio::test]
async fn a_wrong_balance_in_one_answer_fails() {
    let output = test(|account, amount| match exact(account, amount) {
        Answer::Body(200, _) if is_of_the_burst(amount) && account.served == 7 => {
            Answer::balance(account.balance + 1)
        }
        answer => answer,
    })
    .await;
    output.assert_fails_with(&["1 × balance that cannot come about", "1 × balance answered to"]);
}

#[tokio::test]
async fn a_balance_below_zero_fails() {
    let output = test(|account, amount| {
        if is_of_the_burst(amount) && account.balance == 0 {
            account.balance = amount;
            return Answer::balance(amount);
        }
        exact(account, amount)
    })
    .await;
    output.assert_fails_with(&[
        "1 × balance below zero",
        "1 × accepted beyond what the balance can pay",
        "1 × wrong final balance",
    ]);
}

#[tokio::test]
async fn a_refusal_while_the_balance_can_pay_fails() {
    let output = test(|account, amount| {
        if is_of_the_burst(amount) && account.balance == 2 {
            Answer::refusal()
        } else {
            exact(account, amount)
        }
    })
    .await;
    output.assert_fails_with(&["1 × refused while affordable", "1 × wrong final balance"]);
}

#[tokio::test]
async fn server_errors_fail_and_are_counted_by_status() {
    let output = test(|account, amount| {
        let answer = exact(account, amount);
        match account.served {
            60 | 70 if is_of_the_burst(amount) => Answer::error(500, "Internal server error"),
            80 if is_of_the_burst(amount) => Answer::error(503, "Try again"),
            _ => answer,
        }
    })
    .await;
    output.assert_fails_with(&["2 × unexpected status 500", "1 × unexpected status 503"]);
}

#[tokio::test]
async fn a_refusal_that_differs_by_one_byte_fails() {
    let output = test(|account, amount| match exact(account, amount) {
        Answer::Body(400, body) if account.served == 90 => Answer::Body(400, body + "\n"),
        answer => answer,
    })
    .await;
    output.assert_fails_with(&["1 × unexpected body with status 400"]);
}

#[tokio::test]
async fn connections_that_end_without_an_answer_fail() {
    let output = test(|account, amount| {
        let answer = exact(account, amount);
        if is_of_the_burst(amount) && account.served % 20 == 0 { Answer::HangUp } else { answer }
    })
    .await;
    output.assert_fails_with(&["5 × connection lost without a whole answer"]);
}

#[tokio::test]
async fn a_service_that_never_answers_fails_within_the_time_out() {
    let service = FaultyService::start(100, |account, amount| {
        let answer = exact(account, amount);
        if is_of_the_burst(amount) && account.served % 50 == 0 { Answer::Never } else { answer }
    })
    .await;
    let output = Tester::against(&service).args(BURST).args(&["--timeout", "1"]).run().await;
    output.assert_fails_with(&["2 × no answer in time"]);
}
