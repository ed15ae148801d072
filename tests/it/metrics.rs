//! `GET /metrics`: what is measured, and that each request moves it as it should.

use plimsoll::approach::registry;
use plimsoll::store::sizes::sizes;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpStream;

use crate::faults::{lock_row, until, waiting_for_locks};
use crate::planted::plant_hold;
use crate::service::{TestService, balance_body};
use crate::stream::client::StreamClient;

/// The text of `/metrics`.
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) async fn scrape(service: &TestService) -> Self {
        let response = service.send(Method::GET, "/metrics", None).await;
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        let text = response.text().await.unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        Self(text)
    }

    /// The value of a line. Every line must exist from the start.
    pub(crate) fn value(&self, name: &str) -> &str {
        let mut values =
            self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {}", self.0));
        assert_eq!(values.next(), None, "{name} twice");
        value
    }

    /// The value of a line, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<f64> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// All lines.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    fn changes(&self, approach: &str) -> [&str; 7] {
        let outcomes =
            ["accepted", "refused", "replayed", "rejected", "not_applied", "unknown", "failed"];
        let name = |outcome| {
            format!("plimsoll_changes_total{{approach=\"{approach}\",outcome=\"{outcome}\"}}")
        };
        outcomes.map(|outcome| self.value(&name(outcome)))
    }

    pub(crate) fn retries(&self, approach: &str) -> &str {
        self.value(&format!("plimsoll_change_retries_total{{approach=\"{approach}\"}}"))
    }
}

#[tokio::test]
async fn each_change_is_counted_once_by_its_outcome() {
    let service = TestService::start().await;
    for name in registry::names() {
        let metrics = Metrics::scrape(&service).await;
        assert_eq!(metrics.changes(name), ["0"; 7], "{name}");
        let user = service.user_with(10).await;
        assert_eq!(service.change(name, user, -2).await.0, 200, "{name}");
        assert_eq!(service.change(name, user, 0).await.0, 200, "{name}");
        for amount in [-9, -10, -11] {
            assert_eq!(service.change(name, user, amount).await.0, 400, "{name}");
        }
        for _ in 0..3 {
            assert_eq!(service.keyed(name, user, -1, "key").await.0.0, 200, "{name}");
        }
        // Another amount, an unknown user and a sum out of range.
        assert_eq!(service.keyed(name, user, -2, "key").await.0.0, 422, "{name}");
        assert_eq!(service.change(name, 999_999, 1).await.0, 404, "{name}");
        assert_eq!(service.change(name, user, i64::MAX).await.0, 400, "{name}");
        // This request is not a change.
        assert_eq!(service.send(Method::PATCH, "/approach/self/balance", None).await.status(), 415);
        let metrics = Metrics::scrape(&service).await;
        assert_eq!(metrics.changes(name), ["3", "3", "2", "3", "0", "0", "0"], "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn batches_are_counted_by_their_size() {
    let service = TestService::start().await;
    assert_eq!(service.change("batched", 1, -2).await.0, 200);
    assert_eq!(service.change("batched", 1, -2).await.0, 200);
    let metrics = Metrics::scrape(&service).await;
    assert_eq!(metrics.value("plimsoll_batch_changes_count"), "2");
    assert_eq!(metrics.value("plimsoll_batch_changes_sum"), "2.0");
    assert_eq!(metrics.value("plimsoll_batch_changes_bucket{le=\"1.0\"}"), "2");
    service.stop().await;
}

#[tokio::test]
async fn every_attempt_beyond_the_first_is_counted() {
    let service = TestService::start().await;
    for (name, repeated) in [
        ("self", "0"),
        ("transaction-pessimistic-locking", "0"),
        ("optimistic-locking", "1"),
        ("serializable", "1"),
    ] {
        let user = service.user_with(10).await;
        let mut other = lock_row(&service, user).await;
        let changing = async { service.change(name, user, -2).await };
        let winning = async {
            until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
            // Acts like another process.
            for statement in [
                "UPDATE users SET balance = 11, version = 2, changed_at = now() WHERE id = $1",
                "INSERT INTO balance_changes \
                     (user_id, version, kind, amount, held_amount, balance, held, created_at) \
                 VALUES ($1, 2, 'change', 1, 0, 11, 0, now())",
            ] {
                sqlx::query(statement).bind(user).execute(&mut *other).await.unwrap();
            }
            other.commit().await.unwrap();
        };
        let (answer, ()) = tokio::join!(changing, winning);
        assert_eq!(answer, (200, balance_body(9)), "{name}");
        let metrics = Metrics::scrape(&service).await;
        assert_eq!(metrics.retries(name), repeated, "{name}");
        assert_eq!(metrics.changes(name)[0], "1", "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn each_operation_is_counted_once_by_its_outcome() {
    let service = TestService::start().await;
    let (user, other) = (service.user_with(10).await, service.user_with(0).await);
    let pay = |amount: i64| json!({ "from": user, "to": other, "amount": amount });
    let holds = format!("/users/{user}/holds");
    let reserve = json!({ "amount": 1 });
    let all = |amount: i64| {
        json!({ "mode": "all", "changes": [
            { "userId": user, "amount": amount }, { "userId": other, "amount": 1 }
        ] })
    };
    let requests = [
        // Accepted, refused, and rejected.
        ("/transfers".to_owned(), pay(2), 201),
        ("/transfers".to_owned(), pay(50), 400),
        ("/transfers".to_owned(), json!({ "from": user, "to": 999_999, "amount": 1 }), 404),
        (holds.clone(), reserve.clone(), 201),
        (holds.clone(), reserve, 201),
        (format!("{holds}/3/capture"), json!({}), 200),
        (format!("{holds}/3/capture"), json!({}), 409),
        (format!("{holds}/4/release"), json!({}), 200),
        ("/changes".to_owned(), all(-1), 200),
        ("/changes".to_owned(), all(-99), 400),
    ];
    for (path, body, status) in requests {
        let response = service.send(Method::POST, &path, Some(body)).await;
        assert_eq!(response.status(), status, "{path}");
    }
    for replay in [false, true] {
        let request = service.client.post(format!("{}/transfers", service.url));
        let request = request.header("content-type", "application/json");
        let sending = request.header("idempotency-key", "k").body(pay(1).to_string()).send();
        let response = sending.await.unwrap();
        assert_eq!(response.headers().contains_key("idempotent-replayed"), replay);
    }
    let metrics = Metrics::scrape(&service).await;
    for (operation, counts) in [
        ("transfer", ["2", "1", "1", "1"]),
        ("hold", ["2", "0", "0", "0"]),
        ("capture", ["1", "0", "0", "1"]),
        ("release", ["1", "0", "0", "0"]),
        ("all", ["1", "1", "0", "0"]),
    ] {
        let value = |outcome| {
            let labels = format!("operation=\"{operation}\",outcome=\"{outcome}\"");
            metrics.value(&format!("plimsoll_operations_total{{{labels}}}"))
        };
        let seen = ["accepted", "refused", "replayed", "rejected"].map(value);
        assert_eq!(seen, counts, "{operation}");
        for outcome in ["not_applied", "unknown", "failed"] {
            assert_eq!(value(outcome), "0", "{operation}");
        }
    }
    assert_eq!(metrics.value("plimsoll_operation_queue"), "0");
    assert_eq!(metrics.value("plimsoll_operation_retries_total"), "0");
    service.stop().await;
}

/// The value of a counter or a gauge before and after something.
async fn moved(service: &TestService, names: &[&str], doing: impl Future<Output = ()>) -> Vec<f64> {
    let number = |metrics: &Metrics, name: &str| metrics.find(name).unwrap_or(0.0);
    let before = Metrics::scrape(service).await;
    doing.await;
    let after = Metrics::scrape(service).await;
    names.iter().map(|name| number(&after, name) - number(&before, name)).collect()
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let service = TestService::start().await;
    let line = |method: &str, route: &str, status: u16| {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        format!("plimsoll_http_requests_total{{{labels}}}")
    };
    let names = [
        line("PATCH", "/approach/self/balance", 200),
        line("PATCH", "/approach/self/balance", 400),
        line("PATCH", "/approach/{approach}/balance", 404),
        line("GET", "/users/{id}", 200),
        line("GET", "/users/{id}", 404),
        line("POST", "/users", 201),
        line("other", "other", 404),
        line("other", "other", 405),
        "plimsoll_http_request_duration_seconds_count{method=\"GET\",route=\"/users/{id}\"}".into(),
        "plimsoll_http_request_duration_seconds_count{method=\"GET\",route=\"/metrics\"}".into(),
    ];
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let counts = moved(&service, &names, async {
        let user = service.user_with(10).await;
        for (approach, amount) in [("self", -1), ("self", -1), ("self", -99), ("none", -1)] {
            service.change(approach, user, amount).await;
        }
        for path in [&*format!("/users/{user}"), "/users/1", "/users/99999", "/nowhere"] {
            service.send(Method::GET, path, None).await;
        }
        service.send(Method::HEAD, "/users/1", None).await;
        service.send(Method::DELETE, "/users/1", None).await;
    });
    // The first scrape itself is counted after it was written.
    assert_eq!(counts.await, [2.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0]);
    let metrics = Metrics::scrape(&service).await;
    for status in [500, 503, 504] {
        // There before the first one, so that a rate sees it.
        assert_eq!(metrics.value(&line("POST", "/transfers", status)), "0");
    }
    service.stop().await;
}

#[tokio::test]
async fn waits_and_work_of_lanes_and_sessions_are_measured() {
    let service = TestService::start().await;
    let of_lane =
        |name: &str, lane: &str| format!("plimsoll_lane_{name}_seconds_count{{lane=\"{lane}\"}}");
    let of_pool = |name: &str, pool: &str| {
        format!("plimsoll_session_{name}_seconds_count{{pool=\"{pool}\"}}")
    };
    let names = [
        of_lane("wait", "changes"),
        of_lane("batch", "changes"),
        of_lane("wait", "operations"),
        of_lane("batch", "operations"),
        of_pool("wait", "changes"),
        of_pool("work", "changes"),
        of_pool("work", "reads"),
    ];
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let counts = moved(&service, &names, async {
        for _ in 0..3 {
            assert_eq!(service.change("batched", 1, -1).await.0, 200);
        }
        for _ in 0..2 {
            assert_eq!(service.change("self", 1, -1).await.0, 200);
        }
        let hold = json!({ "amount": 1 });
        assert_eq!(service.send(Method::POST, "/users/1/holds", Some(hold)).await.status(), 201);
        assert_eq!(service.send(Method::GET, "/users/1", None).await.status(), 200);
    });
    assert_eq!(counts.await, [3.0, 3.0, 1.0, 1.0, 2.0, 2.0, 1.0]);
    service.stop().await;
}

#[tokio::test]
async fn sessions_in_use_and_waited_for_are_shown() {
    let service =
        TestService::start_with(&[("POOL_SIZE", "2"), ("LOCK_WAIT_MILLIS", "4000")]).await;
    let used = async |name: &str| {
        let metrics = Metrics::scrape(&service).await;
        metrics.value(&format!("plimsoll_sessions_{name}{{pool=\"changes\"}}")).to_owned()
    };
    assert_eq!((&*used("max").await, &*used("open").await), ("2", "2"));
    assert_eq!((&*used("in_use").await, &*used("waiting").await), ("0", "0"));
    let lock = lock_row(&service, 1).await;
    // One user has one of the two sessions; its second change waits.
    let changing =
        async { tokio::join!(service.change("self", 1, -1), service.change("self", 1, -1)) };
    let watching = async {
        until("one waits", async || used("waiting").await == "1").await;
        assert_eq!(used("in_use").await, "1");
        lock.rollback().await.unwrap();
    };
    let ((one, two), ()) = tokio::join!(changing, watching);
    assert_eq!((one.0, two.0), (200, 200));
    until("both are free", async || used("in_use").await == "0").await;
    assert_eq!(used("waiting").await, "0");
    service.stop().await;
}

#[tokio::test]
async fn open_connections_and_requests_in_flight_are_shown() {
    let service = TestService::start().await;
    let number =
        async |name: &str| Metrics::scrape(&service).await.value(name).parse::<i64>().unwrap();
    let (connections, requests) =
        ("plimsoll_http_connections_open", "plimsoll_http_requests_in_flight");
    // The scrape is one itself.
    assert_eq!((number(connections).await, number(requests).await), (1, 1));
    let idle = TcpStream::connect(service.service.address()).await.unwrap();
    until("it is served", async || number(connections).await == 2).await;
    assert_eq!(number(requests).await, 1);
    let stream = StreamClient::open(service.service.address()).await;
    until("a stream is in flight", async || number(requests).await == 2).await;
    assert_eq!(number(connections).await, 3);
    drop((idle, stream));
    until("all but the scrape's own have ended", async || {
        (number(connections).await, number(requests).await) == (1, 1)
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn what_the_database_holds_is_counted_exactly_or_estimated() {
    let service = TestService::start_with(&[("HOLD_SWEEP_SECS", "3600")]).await;
    plant_hold(&service.pool).await;
    let mut connection = service.pool.acquire().await.unwrap();
    for statement in [
        // A second hold that has expired an hour ago.
        "INSERT INTO holds SELECT user_id, hold + 1, amount, captured, state, created_at, \
             now() - interval '1 hour', resolved_at FROM holds WHERE state = 'open' LIMIT 1",
        "ANALYZE",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
    let found = sizes(&mut connection).await.unwrap();
    assert_eq!(found.open_holds, 2);
    assert!((3_600.0..3_700.0).contains(&found.oldest_expired_seconds), "{found:?}");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM balance_changes")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(found.journal_rows, rows);
    assert!(
        found.users >= 1 && found.version.starts_with(|c: char| c.is_ascii_digit()),
        "{found:?}"
    );
    sqlx::query("DELETE FROM holds WHERE hold = 3").execute(&mut *connection).await.unwrap();
    drop(connection);
    // A service asks as soon as it has started.
    until("it has asked", async || {
        Metrics::scrape(&service).await.find("plimsoll_database_up") == Some(1.0)
    })
    .await;
    let metrics = Metrics::scrape(&service).await;
    for name in ["holds_open", "holds_oldest_expired_seconds", "users", "journal_rows"] {
        assert!(metrics.find(&format!("plimsoll_{name}")).is_some(), "{name}");
    }
    service.stop().await;
}
