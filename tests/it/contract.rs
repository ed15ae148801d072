//! The contract of `PATCH /approach/{approach}/balance`, byte for byte, for every approach.

use std::time::{Duration, Instant};

use plimsoll::approach::registry;
use reqwest::Method;
use reqwest::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::faults::{lock_row, until, waiting_for_locks};
use crate::service::{Answer, TestService, balance_body, error_body, insufficient, read};

const PATH: &str = "/approach/self/balance";
const AMOUNT_RULE: &str =
    "amount must be a whole number from -9223372036854775807 to 9223372036854775807";
const REFERENCE_RULE: &str =
    "reference must be a string of 1 to 255 characters without control characters";
const USER_RULE: &str = "userId must be a whole number from 1 to 9223372036854775807";

async fn send_text(service: &TestService, body: &str) -> Answer {
    let request = service
        .client
        .patch(format!("{}{PATH}", service.url))
        .header("content-type", "application/json")
        .body(body.to_owned());
    read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn changes_go_down_and_up_and_zero_reads() {
    let service = TestService::start().await;
    for name in registry::names() {
        let user = service.user_with(10_000).await;
        assert_eq!(service.change(name, user, -2).await, (200, balance_body(9_998)), "{name}");
        assert_eq!(service.change(name, user, 5).await, (200, balance_body(10_003)), "{name}");
        assert_eq!(service.change(name, user, 0).await, (200, balance_body(10_003)), "{name}");
        assert_eq!(service.balance_of(user).await, 10_003, "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn the_whole_balance_can_go_and_not_one_cent_more() {
    let service = TestService::start().await;
    for name in registry::names() {
        let user = service.user_with(3).await;
        assert_eq!(service.change(name, user, -4).await, insufficient(), "{name}");
        assert_eq!(service.change(name, user, -3).await, (200, balance_body(0)), "{name}");
        assert_eq!(service.change(name, user, -1).await, insufficient(), "{name}");
        assert_eq!(service.change(name, user, -i64::MAX).await, insufficient(), "{name}");
        assert_eq!(service.balance_of(user).await, 0, "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn an_unknown_user_is_not_an_empty_account() {
    let service = TestService::start().await;
    for name in registry::names() {
        for amount in [-1, 0, 1] {
            let answer = service.change(name, 4_711, amount).await;
            assert_eq!(answer, (404, error_body("User not found")), "{name} {amount}");
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn a_sum_beyond_64_bits_is_a_400_and_changes_nothing() {
    let service = TestService::start().await;
    for name in registry::names() {
        let user = service.user_with(1).await;
        let answer = service.change(name, user, i64::MAX).await;
        assert_eq!(answer, (400, error_body("Balance out of range")), "{name}");
        assert_eq!(service.change(name, user, i64::MAX - 1).await, (200, balance_body(i64::MAX)));
        assert_eq!(service.change(name, user, -i64::MAX).await, (200, balance_body(0)), "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn every_malformed_body_is_a_400_that_says_what_is_wrong() {
    let service = TestService::start().await;
    let required = "userId and amount are required";
    let object = "The request body must be a JSON object with userId, amount, reference";
    let cases = [
        ("{}", required),
        (r#"{"userId":1}"#, required),
        (r#"{"amount":-2}"#, required),
        (r#"{"userId":null,"amount":-2}"#, required),
        (r#"{"userId":1,"amount":null}"#, required),
        (r#"{"userId":1,"amount":-2.5}"#, AMOUNT_RULE),
        (r#"{"userId":1,"amount":-2.0}"#, AMOUNT_RULE),
        (r#"{"userId":1,"amount":"-2"}"#, AMOUNT_RULE),
        (r#"{"userId":1,"amount":[2]}"#, AMOUNT_RULE),
        (r#"{"userId":1,"amount":1e2}"#, AMOUNT_RULE),
        (r#"{"userId":1,"amount":true}"#, AMOUNT_RULE),
        (r#"{"userId":1,"amount":9223372036854775808}"#, AMOUNT_RULE),
        (r#"{"userId":1,"amount":-9223372036854775808}"#, AMOUNT_RULE),
        (r#"{"userId":0,"amount":-2}"#, USER_RULE),
        (r#"{"userId":-1,"amount":-2}"#, USER_RULE),
        (r#"{"userId":"1","amount":-2}"#, USER_RULE),
        (r#"{"userId":1.5,"amount":-2}"#, USER_RULE),
        (r#"{"userId":9223372036854775808,"amount":-2}"#, USER_RULE),
        (r#"{"userId":1,"amount":-2,"reference":""}"#, REFERENCE_RULE),
        (r#"{"userId":1,"amount":-2,"reference":17}"#, REFERENCE_RULE),
        (r#"{"userId":1,"amount":-2,"reference":["x"]}"#, REFERENCE_RULE),
        (r#"{"userId":1,"amount":-2,"reference":"a\nb"}"#, REFERENCE_RULE),
        (r#"{"userId":1,"amount":-2,"reference":"a\u0000b"}"#, REFERENCE_RULE),
        (r#"{"userId":1,"amount":-2,"reference":"\ud800"}"#, REFERENCE_RULE),
        ("[1,-5]", object),
        ("7", object),
        ("null", object),
        (r#"{"userId":1,"amount":-2,"amount":-3}"#, "amount must not be given twice"),
        (
            r#"{"userId":1,"amount":-2,"to":2}"#,
            "Unknown member \"to\"; the request body may have userId, amount, reference",
        ),
    ];
    for (body, sentence) in cases {
        assert_eq!(send_text(&service, body).await, (400, error_body(sentence)), "{body}");
    }
    for body in ["", "{", r#"{"userId":1,"amount":-2}x"#, r#"{"userId":1,"amount":-2}{}"#, "\u{1}"]
    {
        let (status, text) = send_text(&service, body).await;
        assert_eq!(status, 400, "{body}");
        assert!(text.starts_with(r#"{"error":"The request body is not valid JSON: "#), "{text}");
    }
    assert_eq!(service.balance_of(1).await, 10_000);
    service.stop().await;
}

#[tokio::test]
async fn only_json_is_read() {
    let service = TestService::start().await;
    let body = r#"{"userId":1,"amount":-2}"#;
    let send = async |content_type: Option<&'static str>| {
        let mut request = service.client.patch(format!("{}{PATH}", service.url)).body(body);
        if let Some(value) = content_type {
            request = request.header("content-type", HeaderValue::from_static(value));
        }
        read(request.send().await.unwrap()).await
    };
    let refused = (415, error_body("Content-Type must be application/json"));
    assert_eq!(send(None).await, refused);
    assert_eq!(send(Some("text/plain")).await, refused);
    assert_eq!(send(Some("application/jsonx")).await, refused);
    assert_eq!(send(Some("Application/JSON; charset=utf-8")).await, (200, balance_body(9_998)));
    service.stop().await;
}

#[tokio::test]
async fn a_body_of_3_mb_is_answered_and_not_reset() {
    let service = TestService::start().await;
    let (status, text) = send_text(&service, &" ".repeat(3_000_000)).await;
    assert_eq!(status, 413);
    assert_eq!(text, error_body("The request body must not be longer than 4096 bytes"));
    assert_eq!(service.change("self", 1, -2).await, (200, balance_body(9_998)));
    service.stop().await;
}

#[tokio::test]
async fn routes_methods_and_approaches_that_do_not_exist_are_told_so() {
    let service = TestService::start().await;
    let names: Vec<_> = registry::names().collect();
    assert_eq!(
        service.change("fastest", 1, -2).await,
        (404, error_body(&format!("Unknown approach; there are: {}", names.join(", "))))
    );
    let nowhere = service.send(Method::GET, "/nowhere", None).await;
    assert_eq!(read(nowhere).await, (404, error_body("Not found")));
    let wrong = service.send(Method::POST, PATH, None).await;
    assert_eq!(wrong.headers()["allow"], "PATCH");
    assert_eq!(read(wrong).await, (405, error_body("Method not allowed")));
    service.stop().await;
}

#[tokio::test]
async fn answers_are_json_and_nothing_else() {
    let service = TestService::start().await;
    let body = serde_json::json!({ "userId": 1, "amount": 0 });
    let answer = service.send(Method::PATCH, PATH, Some(body)).await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    let error = service.send(Method::GET, "/nowhere", None).await;
    assert_eq!(error.headers()["content-type"], "application/json");
    service.stop().await;
}

#[tokio::test]
async fn health_says_that_it_runs_and_readiness_that_the_database_answers() {
    let service = TestService::start().await;
    let alive = service.send(Method::GET, "/healthz", None).await;
    assert_eq!(read(alive).await, (200, r#"{"status":"ok"}"#.to_owned()));
    let ready = service.send(Method::GET, "/readyz", None).await;
    assert_eq!(read(ready).await, (200, r#"{"status":"ready"}"#.to_owned()));
    service.stop().await;
}

#[tokio::test]
async fn with_tokens_configured_nobody_else_gets_in() {
    let service = TestService::start_with(&[("AUTH_TOKENS", "alpha, beta")]).await;
    assert_eq!(service.change("self", 1, -2).await, (401, error_body("Unauthorized")));
    let send = async |token: &str| {
        let request = service
            .client
            .patch(format!("{}{PATH}", service.url))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(r#"{"userId":1,"amount":-2}"#);
        read(request.send().await.unwrap()).await
    };
    assert_eq!(send("gamma").await, (401, error_body("Unauthorized")));
    assert_eq!(send("beta").await, (200, balance_body(9_998)));
    let alive = service.send(Method::GET, "/healthz", None).await;
    assert_eq!(alive.status(), 200);
    let metrics = service.send(Method::GET, "/metrics", None).await;
    assert_eq!(metrics.status(), 401);
    service.stop().await;
}

#[tokio::test]
async fn silent_and_slow_clients_are_let_go() {
    let service =
        TestService::start_with(&[("HEAD_TIMEOUT_SECS", "1"), ("BODY_TIMEOUT_SECS", "1")]).await;
    let head = "PATCH /approach/self/balance HTTP/1.1\r\nhost: x\r\n\
                content-type: application/json\r\ncontent-length: 24\r\n\r\n{\"userId\":";
    for (sent, answer) in [("", ""), ("PATCH /appr", ""), (head, "HTTP/1.1 408 Request Timeout")] {
        let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let received = read_to_end(&mut stream).await;
        assert!(received.starts_with(answer), "{sent:?}: {received:?}");
    }
    service.stop().await;
}

const WITHDRAWAL: &str = "PATCH /approach/self/balance HTTP/1.1\r\nhost: x\r\n\
    content-type: application/json\r\ncontent-length: 24\r\n\r\n{\"userId\":1,\"amount\":-2}";

#[tokio::test]
async fn a_connection_is_let_go_a_while_after_its_last_answer_and_never_before_it() {
    let service =
        TestService::start_with(&[("HEAD_TIMEOUT_SECS", "1"), ("IDLE_TIMEOUT_SECS", "1")]).await;
    let lock = lock_row(&service, 1).await;
    let mut busy = TcpStream::connect(service.service.address()).await.unwrap();
    busy.write_all(WITHDRAWAL.as_bytes()).await.unwrap();
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    // The busy connection is older than these, so it would time out before them.
    for _ in 0..2 {
        let mut silent = TcpStream::connect(service.service.address()).await.unwrap();
        assert_eq!(read_to_end(&mut silent).await, "");
    }
    let released = Instant::now();
    lock.rollback().await.unwrap();
    let mut first = [0; 15];
    timeout(Duration::from_secs(10), busy.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    assert!(read_to_end(&mut busy).await.ends_with(&balance_body(9_998)));
    assert!(released.elapsed() >= Duration::from_millis(999), "{:?}", released.elapsed());
    service.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_let_go() {
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "1")]).await;
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    let asking = async {
        // The answers fill every buffer on the way. After that, the service reads no more requests.
        while stream.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {}
    };
    timeout(Duration::from_secs(30), asking).await.expect("the service closes the connection");
    service.stop().await;
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut received = String::new();
    let closed = timeout(Duration::from_secs(10), stream.read_to_string(&mut received));
    closed.await.expect("the service closes the connection").unwrap();
    received
}

#[tokio::test]
async fn a_restart_never_resets_a_balance() {
    let service = TestService::start().await;
    assert_eq!(service.balance_of(1).await, 10_000);
    assert_eq!(service.change("self", 1, -10_000).await, (200, balance_body(0)));
    let database = service.database.clone();
    service.stop().await;
    let again = TestService::start_on(database, &[]).await;
    assert_eq!(again.balance_of(1).await, 0);
    again.stop().await;
}
