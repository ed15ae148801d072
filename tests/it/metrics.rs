//! `GET /metrics`: every change is counted once, by approach and outcome.

use plimsoll::approach::registry;
use reqwest::Method;
use serde_json::json;

use crate::faults::{lock_row, until, waiting_for_locks};
use crate::service::{TestService, balance_body};

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
