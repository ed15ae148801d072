//! `POST /changes` as a stream: one change a line, one result a line, while the request still arrives.

pub(crate) mod client;
mod faults;
mod limits;

use std::collections::HashMap;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::bulk::check_duplicates;
use crate::faults::{PATIENT, lock_row, until, waiting_for_locks};
use crate::metrics::Metrics;
use crate::service::{TestService, balance_body, error_body, read};
use client::{HEAD, StreamClient};

const RUNNING: &str = "A change with the same Idempotency-Key is still running, try again";
const USED: &str = "The Idempotency-Key was used before with another request";

async fn open(service: &TestService) -> StreamClient {
    StreamClient::open(service.service.address()).await
}

fn accepted(balance: i64) -> Value {
    json!({ "balance": balance })
}

fn failed(status: u16, sentence: &str) -> Value {
    json!({ "status": status, "error": sentence })
}

fn line(user: i64, amount: i64) -> String {
    format!("{{\"userId\":{user},\"amount\":{amount}}}\n")
}

fn keyed(user: i64, amount: i64, key: &str) -> String {
    format!("{{\"userId\":{user},\"amount\":{amount},\"key\":\"{key}\"}}\n")
}

#[tokio::test]
async fn each_line_is_answered_while_the_request_still_arrives() {
    let service = TestService::start().await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    for left in (9_990..10_000).rev() {
        sender.send(&line(1, -1)).await;
        assert_eq!(results.next().await, Some(accepted(left)));
    }
    assert_eq!(service.balance_of(1).await, 9_990, "it is durable before the stream ends");
    // A line may arrive in parts, and several in one.
    let two = line(1, -1) + &line(1, -99_999);
    let (first, second) = two.split_at(10);
    sender.send(first).await;
    sender.send(second).await;
    assert_eq!(results.next().await, Some(accepted(9_989)));
    assert_eq!(results.next().await, Some(failed(400, "Insufficient funds")));
    sender.finish().await;
    assert_eq!(results.next().await, None);
    service.stop().await;
}

#[tokio::test]
async fn a_malformed_line_is_its_own_400_and_the_stream_goes_on() {
    let service = TestService::start().await;
    let long = format!("{{\"userId\":1,\"amount\":-1,\"reference\":\"{}\"}}", "x".repeat(5_000));
    let not_json = "A change is not valid JSON: expected value at line 1 column 1";
    let cases: [(&[u8], u16, &str); 6] = [
        (b"x", 400, not_json),
        (
            b"\xff",
            400,
            "A change is not valid JSON: invalid utf-8 sequence of 1 bytes from index 0",
        ),
        (b"{}", 400, "userId and amount are required"),
        (b"[1,-1]", 400, "A change must be a JSON object with userId, amount, key, reference"),
        (
            br#"{"userId":1,"amount":-1}{}"#,
            400,
            "A change is not valid JSON: trailing characters at line 1 column 25",
        ),
        (long.as_bytes(), 413, "A line must not be longer than 4096 bytes"),
    ];
    let (mut lines, mut expected) = (Vec::new(), Vec::new());
    for ((bad, status, sentence), left) in cases.into_iter().zip((0..10_000).rev()) {
        // Blank lines are no lines, and a line may end as on Windows.
        let good = line(1, -1).replace('\n', "\r\n");
        lines.extend_from_slice(&[bad, b"\n", b"\n", b" \r\n", good.as_bytes()].concat());
        expected.extend([failed(status, sentence), accepted(left)]);
    }
    // The last line needs no end.
    lines.extend_from_slice(line(1, 0).trim_end().as_bytes());
    expected.push(accepted(9_994));
    for size in [1, 100, lines.len()] {
        let StreamClient { mut sender, mut results } = open(&service).await;
        let sending = async {
            for part in lines.chunks(size) {
                sender.send_bytes(part).await;
            }
            sender.finish().await;
        };
        let (found, ()) = tokio::join!(results.rest(), sending);
        assert_eq!(found, expected, "in parts of {size}");
        service.change("self", 1, 6).await;
    }
    service.stop().await;
}

/// Generated amounts around the line, so that some are refused: held against a model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_changes_of_a_user_are_decided_in_order_of_the_lines() {
    let service = TestService::start().await;
    let mut users = Vec::new();
    for balance in [0, 5, 50] {
        users.push((service.user_with(balance).await, balance));
    }
    let mut balances: HashMap<i64, i64> = users.iter().copied().collect();
    let mut random = fastrand::Rng::with_seed(12);
    let (mut lines, mut expected) = (String::new(), Vec::new());
    for _ in 0..20_000 {
        let user = users[random.usize(0..3)].0;
        let amount = random.i64(-30..30);
        let balance = balances.get_mut(&user).unwrap();
        if *balance + amount >= 0 {
            *balance += amount;
            expected.push(accepted(*balance));
        } else {
            expected.push(failed(400, "Insufficient funds"));
        }
        lines.push_str(&line(user, amount));
    }
    assert!(open(&service).await.exchange(lines).await == expected);
    for (user, _) in users {
        assert_eq!(service.balance_of(user).await, balances[&user]);
    }
    let metrics = Metrics::scrape(&service).await;
    let refused = expected.iter().filter(|result| result.get("status").is_some()).count();
    let name = "plimsoll_changes_total{approach=\"batched\",outcome=\"refused\"}";
    assert_eq!(metrics.value(name), refused.to_string());
    service.stop().await;
}

#[tokio::test]
async fn a_key_that_is_repeated_in_the_stream_is_replayed() {
    let service = TestService::start().await;
    let user = service.user_with(10).await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    // At once, and again when it was answered.
    for _ in 0..2 {
        sender.send(&(keyed(user, -4, "a") + &keyed(user, -4, "a") + &keyed(user, -5, "a"))).await;
        let mut found = Vec::new();
        for _ in 0..3 {
            found.extend(results.next().await);
        }
        assert_eq!(found, [accepted(6), accepted(6), failed(422, USED)]);
    }
    assert_eq!(service.keyed("self", user, -4, "a").await, ((200, balance_body(6)), true));
    sender.finish().await;
    assert_eq!(results.rest().await, [] as [Value; 0]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_in_use_elsewhere_is_a_409_at_once() {
    // Whoever waits for a key is never told that it is in use.
    let service = Arc::new(TestService::start_with(&[("KEY_WAIT_SECS", "60"), PATIENT]).await);
    let (user, other) = (service.user_with(10).await, service.user_with(10).await);
    let lock = lock_row(&service, user).await;
    let first = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.keyed("self", user, -1, "k").await }
    });
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    sender.send(&(keyed(user, -1, "k") + &keyed(other, -1, "k"))).await;
    assert_eq!(results.next().await, Some(failed(409, RUNNING)));
    assert_eq!(results.next().await, Some(accepted(9)));
    // And a key that is in use here is a 409 elsewhere.
    sender.send(&keyed(user, -1, "mine")).await;
    // Not found out by sending the same key: that might come first, and be what is on its way.
    until("the stream's change is on its way", async || waiting_for_locks(&service).await == 2)
        .await;
    let change = json!({ "userId": user, "amount": -1, "key": "mine" });
    let body = json!({ "changes": [change] });
    let (_, text) = read(service.send(Method::POST, "/changes", Some(body)).await).await;
    assert!(text.contains(RUNNING), "{text}");
    lock.rollback().await.unwrap();
    assert_eq!(first.await.unwrap().0.0, 200);
    assert!(results.next().await.unwrap()["balance"].is_number());
    assert!(service.keyed("batched", user, -1, "mine").await.1, "a replay");
    assert_eq!(service.journal_rows(user).await, 3);
    sender.finish().await;
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test]
async fn a_stream_takes_no_key_for_all_its_lines() {
    let service = TestService::start().await;
    let request = service.client.post(format!("{}/changes", service.url));
    let request = request.header("content-type", "application/x-ndjson");
    let request = request.header("idempotency-key", "k").body(line(1, -1));
    let sentence = "Idempotency-Key is for mode all: give each change a key of its own";
    assert_eq!(read(request.send().await.unwrap()).await, (400, error_body(sentence)));
    assert_eq!(service.balance_of(1).await, 10_000);
    service.stop().await;
}

#[tokio::test]
async fn a_client_that_asks_for_permission_gets_it() {
    let service = TestService::start().await;
    let head = format!("{HEAD}expect: 100-continue\r\n\r\n");
    let client = StreamClient::open_with(service.service.address(), &head).await;
    let StreamClient { mut sender, mut results } = client;
    assert_eq!(results.first_line().await, "HTTP/1.1 100 Continue");
    sender.send(&line(1, -1)).await;
    assert_eq!(results.next().await, Some(accepted(9_999)));
    sender.finish().await;
    assert_eq!(results.next().await, None);
    service.stop().await;
}

#[tokio::test]
async fn an_empty_stream_has_an_empty_answer_and_the_connection_goes_on() {
    let service = TestService::start().await;
    for body in ["", "\n\n", "  "] {
        let request = service.client.post(format!("{}/changes", service.url));
        let request = request.header("content-type", "application/x-ndjson").body(body);
        assert_eq!(read(request.send().await.unwrap()).await, (200, String::new()), "{body:?}");
    }
    assert_eq!(service.send(Method::GET, "/healthz", None).await.status(), 200);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_duplicates_in_streams_a_thousand_are_changes() {
    check_duplicates(2_500, async |service: Arc<TestService>, keys: Vec<String>| {
        let lines = keys.iter().map(|key| keyed(2, -1, key)).collect();
        open(&service).await.exchange(lines).await
    })
    .await;
}
