//! What the executable logs: one line for each failure, none for a success, and a bound on a flood.

use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStderr;
use tokio::time::timeout;

use crate::process::ServiceProcess;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A service that logs as JSON, and the client of one test.
struct Logging {
    service: ServiceProcess,
    log: Lines<BufReader<ChildStderr>>,
    client: Client,
}

impl Logging {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let variables = [&[("LOG_FORMAT", "json")], variables].concat();
        let (service, log) = ServiceProcess::start_logging("true", &variables).await;
        Self { service, log, client: Client::new() }
    }

    /// The fields of the next line, with its level.
    async fn next(&mut self) -> Value {
        let reading = timeout(Duration::from_secs(30), self.log.next_line());
        let line = reading.await.expect("a line").unwrap().expect("the service runs");
        let mut line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let mut fields = line["fields"].take();
        fields["level"] = line["level"].take();
        fields
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let url = format!("http://{}{path}", self.service.address);
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.unwrap()
    }

    async fn database(&self) -> PgConnection {
        self.service.database.connect().await.unwrap()
    }

    /// From now on each request that needs a user fails with 500.
    async fn break_database(&self) {
        let mut database = self.database().await;
        database.execute("ALTER TABLE users RENAME TO gone").await.unwrap();
        database.close().await.unwrap();
    }
}

fn change(amount: i64) -> Option<Value> {
    Some(json!({ "userId": 1, "amount": amount }))
}

#[tokio::test]
async fn a_failure_is_one_line_with_all_that_is_known() {
    let mut logging = Logging::start(&[("LANE_QUEUE", "1"), ("LANES", "1")]).await;
    logging.break_database().await;
    let sending = logging
        .client
        .patch(format!("http://{}/approach/self/balance", logging.service.address))
        .header("content-type", "application/json")
        .header("x-request-id", "mine")
        .header("traceparent", TRACEPARENT)
        .body(json!({ "userId": 17, "amount": -2 }).to_string());
    assert_eq!(sending.send().await.unwrap().status(), 500);
    let line = logging.next().await;
    let took = line["duration_ms"].as_f64().unwrap();
    assert!(took > 0.0 && took < 30_000.0, "{line}");
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("relation \"users\" does not exist"), "{line}");
    let mut known = line.clone();
    known["duration_ms"].take();
    known["cause"].take();
    assert_eq!(
        known,
        json!({
            "level": "ERROR", "message": "a request failed",
            "request_id": "mine", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "method": "PATCH", "route": "/approach/self/balance",
            "operation": "changeThroughApproach", "approach": "self",
            "user": 17, "status": 500, "duration_ms": null, "cause": null
        })
    );

    let response = logging.send(Method::GET, "/users/18/holds?limit=5", None).await;
    assert_eq!(response.status(), 500);
    let line = logging.next().await;
    assert_eq!(line["request_id"], response.headers()["x-request-id"].to_str().unwrap());
    assert_eq!(
        (&line["route"], &line["operation"]),
        (&json!("/users/{id}/holds"), &json!("listHolds"))
    );
    assert_eq!((&line["user"], &line["trace_id"]), (&json!(18), &Value::Null));

    let bulk = json!({ "changes": [change(-1), change(-1)] });
    let response = logging.send(Method::POST, "/changes", Some(bulk)).await;
    assert_eq!(response.status(), 503);
    let line = logging.next().await;
    assert_eq!((&line["level"], &line["status"]), (&json!("WARN"), &json!(503)));
    assert_eq!(line["cause"], "the user's share of the lane's queue is full");
}

#[tokio::test]
async fn successes_refusals_and_mistakes_of_clients_leave_no_line() {
    let mut logging = Logging::start(&[]).await;
    for (method, path, body, status) in [
        (Method::PATCH, "/approach/self/balance", change(-1), 200),
        (Method::PATCH, "/approach/batched/balance", change(-1), 200),
        (Method::PATCH, "/approach/batched/balance", change(-1_000_000), 400),
        (Method::PATCH, "/approach/self/balance", Some(json!({})), 400),
        (Method::POST, "/transfers", Some(json!({ "from": 1, "to": 99, "amount": 1 })), 404),
        (Method::POST, "/changes", Some(json!({ "changes": [change(-1), 7] })), 200),
        (Method::GET, "/users/1", None, 200),
        (Method::GET, "/nowhere", None, 404),
        (Method::DELETE, "/users/1", None, 405),
        (Method::GET, "/metrics", None, 200),
        (Method::GET, "/readyz", None, 200),
    ] {
        let response = logging.send(method, path, body).await;
        assert_eq!(response.status(), status, "{path}");
    }
    logging.break_database().await;
    assert_eq!(logging.send(Method::GET, "/users/19", None).await.status(), 500);
    // The first line of all is that of the failure.
    let line = logging.next().await;
    assert_eq!((&line["message"], &line["user"]), (&json!("a request failed"), &json!(19)));
}

#[tokio::test]
async fn a_flood_of_equal_failures_is_a_few_lines_and_a_count() {
    const REQUESTS: u64 = 400;
    let mut logging = Logging::start(&[]).await;
    logging.break_database().await;
    for _ in 0..REQUESTS {
        assert_eq!(logging.send(Method::GET, "/users/1", None).await.status(), 500);
    }
    let (mut lines, mut more, mut since_summary) = (0, 0, 0);
    while lines + more < REQUESTS {
        let line = logging.next().await;
        if line["message"] == "a request failed" {
            lines += 1;
            since_summary += 1;
            continue;
        }
        assert_eq!(line["message"], "… more requests failed in this second");
        assert_eq!(line["status"], 500);
        assert!(line["cause"].as_str().unwrap().contains("does not exist"), "{line}");
        assert!(since_summary <= 10, "{since_summary} lines in a second");
        more += line["more"].as_u64().unwrap();
        since_summary = 0;
    }
    assert_eq!(lines + more, REQUESTS);
    assert!(more > 0, "{lines} lines");
}

#[tokio::test]
async fn the_items_of_a_bulk_or_a_stream_that_fail_are_one_line() {
    const ITEMS: u64 = 300;
    let mut logging = Logging::start(&[]).await;
    logging.break_database().await;
    let items: Vec<_> = (0..ITEMS).map(|_| change(-1)).collect();
    let bulk = json!({ "changes": items });
    let response = logging.send(Method::POST, "/changes", Some(bulk)).await;
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let line = logging.next().await;
    assert_eq!((&line["request_id"], &line["items"]), (&json!(id), &json!(ITEMS)));
    assert_eq!((&line["status"], &line["operation"]), (&json!(500), &json!("applyChanges")));

    let lines: String = (0..ITEMS).map(|_| "{\"userId\":1,\"amount\":-1}\n").collect();
    let url = format!("http://{}/changes", logging.service.address);
    let request = logging.client.post(url).header("content-type", "application/x-ndjson");
    let response = request.header("x-request-id", "stream").body(lines).send().await.unwrap();
    assert_eq!(response.text().await.unwrap().lines().count(), 300);
    let mut items = 0;
    while items < ITEMS {
        let line = logging.next().await;
        assert_eq!((&line["request_id"], &line["status"]), (&json!("stream"), &json!(500)));
        items += line["items"].as_u64().unwrap();
    }
    assert_eq!(items, ITEMS);
}

#[tokio::test]
async fn a_failure_is_logged_with_the_name_of_its_token() {
    let tokens = ("AUTH_TOKENS", "shop:read+write:s3cret-of-the-shop");
    let mut logging = Logging::start(&[tokens]).await;
    logging.break_database().await;
    let change = r#"{"userId":1,"amount":-2}"#;
    for (path, kind, status) in [("/users/1", "", 500), ("/changes", "application/x-ndjson", 200)] {
        let url = format!("http://{}{path}", logging.service.address);
        let request = match kind {
            "" => logging.client.get(url),
            _ => logging.client.post(url).header("content-type", kind).body(change),
        };
        let response = request.bearer_auth("s3cret-of-the-shop").send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        response.bytes().await.unwrap();
        let line = logging.next().await;
        assert_eq!(line["caller"], "shop", "{line}");
        assert!(!line.to_string().contains("s3cret"), "{line}");
    }
}
