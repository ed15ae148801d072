//! What a change leaves in the journal, through every approach: its reference, its time, and room for
//! what is held.

use std::sync::Arc;

use plimsoll::approach::registry;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::planted::plant;
use crate::service::{
    Answer, TestService, balance_body, error_body, insufficient, read, stop_both, two_instances,
};

/// A change with a reference and, where there is one, a key.
async fn change(
    service: &TestService,
    name: &str,
    user: i64,
    amount: i64,
    reference: Option<&str>,
    key: Option<&str>,
) -> Answer {
    let body = json!({ "userId": user, "amount": amount, "reference": reference });
    let mut request = service
        .client
        .patch(format!("{}/approach/{name}/balance", service.url))
        .header("content-type", "application/json")
        .body(body.to_string());
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    read(request.send().await.unwrap()).await
}

/// A user's history, oldest first.
async fn history(service: &TestService, user: i64) -> Vec<Value> {
    let path = format!("/users/{user}/changes?limit=500");
    let (status, text) = read(service.send(Method::GET, &path, None).await).await;
    assert_eq!(status, 200, "{text}");
    let mut page: Value = serde_json::from_str(&text).unwrap();
    let mut rows: Vec<Value> = page["changes"].as_array_mut().unwrap().drain(..).collect();
    rows.reverse();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_stands_in_the_history_as_it_was_sent() {
    let service = TestService::start().await;
    let long = "é😀".repeat(127);
    let texts = ["rent 11/26", " ", "'; DROP TABLE users; --", "\u{1f44d}\u{1f3fd} \"\\", &long];
    for name in registry::names() {
        let user = service.user_with(100).await;
        let (mut expected, mut balance) = (vec![Value::Null], 100);
        for (number, text) in texts.iter().enumerate() {
            for key in [None, Some(format!("k{number}"))] {
                balance -= 1;
                let answer = change(&service, name, user, -1, Some(text), key.as_deref()).await;
                assert_eq!(answer, (200, balance_body(balance)), "{name}, {text:?}, {key:?}");
                expected.push(json!(text));
            }
        }
        // No reference, and one that is null, are the same.
        assert_eq!(change(&service, name, user, -1, None, Some("none")).await.0, 200);
        assert!(service.keyed(name, user, -1, "none").await.1, "{name}: a replay");
        expected.push(Value::Null);
        let rows = history(&service, user).await;
        let references: Vec<_> = rows.iter().map(|row| row["reference"].clone()).collect();
        assert_eq!(references, expected, "{name}");
        for row in &rows {
            assert_eq!((&row["kind"], &row["heldAmount"]), (&json!("change"), &json!(0)), "{row}");
            assert_eq!(row["held"], 0, "{row}");
        }
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_belongs_to_a_request_with_its_reference() {
    let service = TestService::start().await;
    let reused = "The Idempotency-Key was used before with another request";
    for first in registry::names() {
        let user = service.user_with(100).await;
        for (amount, key, answer) in
            [(-1, "fits", (200, balance_body(99))), (-500, "refused", insufficient())]
        {
            let sent = change(&service, first, user, amount, Some("rent"), Some(key)).await;
            assert_eq!(sent, answer, "{first}");
            for name in registry::names() {
                let same = change(&service, name, user, amount, Some("rent"), Some(key)).await;
                assert_eq!(same, answer, "{first}, then {name}");
                for reference in [None, Some("Rent"), Some("rent ")] {
                    let other = change(&service, name, user, amount, reference, Some(key)).await;
                    assert_eq!(other, (422, error_body(reused)), "{first}, then {name}");
                }
            }
        }
        assert_eq!(history(&service, user).await.len(), 2, "{first}");
    }
    service.stop().await;
}

/// Many at once, so that one batch has changes with and without texts of each length.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_a_batch_keeps_its_own_reference() {
    let service = Arc::new(TestService::start().await);
    let mut senders = JoinSet::new();
    for i in 0..200_i64 {
        let service = Arc::clone(&service);
        senders.spawn(async move {
            let text = (i % 3 > 0).then(|| format!("é{}", "x".repeat(usize::try_from(i).unwrap())));
            let key = (i % 2 > 0).then(|| format!("k{i}"));
            let sent = change(&service, "batched", 1, -1 - i, text.as_deref(), key.as_deref());
            let answer = sent.await;
            (1 + i, text, key, answer)
        });
    }
    let sent = senders.join_all().await;
    let rows = history(&service, 1).await;
    for (amount, text, key, answer) in sent {
        let is_own = |row: &&Value| row["amount"] == -amount;
        let row = rows.iter().find(is_own);
        if answer.0 == 400 {
            assert_eq!((answer, row), (insufficient(), None));
            continue;
        }
        let row = row.unwrap();
        assert_eq!(answer, (200, balance_body(row["balance"].as_i64().unwrap())));
        assert_eq!(
            (row["reference"].as_str(), row["key"].as_str()),
            (text.as_deref(), key.as_deref())
        );
    }
    Arc::into_inner(service).unwrap().stop().await;
}

/// Through two instances and all approaches, on a clock that was set back by an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_never_run_backwards() {
    let instances = two_instances(None).await;
    let user = instances[0].user_with(1_000_000).await;
    // As if the user's last change had been stamped by a clock that ran ahead.
    sqlx::query("UPDATE users SET changed_at = changed_at + interval '1 hour' WHERE id = $1")
        .bind(user)
        .execute(&instances[0].pool)
        .await
        .unwrap();
    let mut senders = JoinSet::new();
    for (number, name) in registry::names().chain(registry::names()).enumerate() {
        let service = Arc::clone(&instances[number % 2]);
        senders.spawn(async move {
            for i in 0..20 {
                let key = (i % 2 > 0).then(|| format!("{number}-{i}"));
                let answer = change(&service, name, user, -1, None, key.as_deref()).await;
                assert_eq!(answer.0, 200, "{name}: {}", answer.1);
            }
        });
    }
    senders.join_all().await;
    let rows = history(&instances[0], user).await;
    assert_eq!(rows.len(), 201);
    let times: Vec<_> = rows.iter().map(|row| row["createdAt"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[1] > times[0], "the first change is stamped after the clock that ran ahead");
    // And the stamp of the row is that of its last change.
    let same: bool = sqlx::query_scalar(
        "SELECT u.changed_at = c.created_at FROM users u \
         JOIN balance_changes c ON c.user_id = u.id AND c.version = u.version WHERE u.id = $1",
    )
    .bind(user)
    .fetch_one(&instances[0].pool)
    .await
    .unwrap();
    assert!(same);
    stop_both(instances).await;
}

/// The sum of what can be spent and what is held fits into 63 bits, so that a hold can be released.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_leaves_room_for_what_is_held() {
    let service = TestService::start().await;
    let beyond = (400, error_body("Balance out of range"));
    for name in registry::names() {
        let user = service.user_with(100).await;
        // As a hold of 40 leaves it.
        sqlx::query(
            "WITH held AS (UPDATE users SET balance = 60, held = 40, version = 2 WHERE id = $1 \
                 RETURNING changed_at), \
             made AS (INSERT INTO holds \
                 (user_id, hold, amount, captured, state, created_at, expires_at) \
             SELECT $1, 2, 40, 0, 'open', changed_at, changed_at + interval '1 day' FROM held) \
             INSERT INTO balance_changes \
                 (user_id, version, kind, amount, held_amount, balance, held, created_at, hold) \
             SELECT $1, 2, 'hold', -40, 40, 60, 40, changed_at, 2 FROM held",
        )
        .bind(user)
        .execute(&service.pool)
        .await
        .unwrap();
        for key in [None, Some("beyond")] {
            let answer = change(&service, name, user, i64::MAX - 99, None, key).await;
            assert_eq!(answer, beyond, "{name}, {key:?}");
        }
        // What is held cannot be spent.
        assert_eq!(change(&service, name, user, -61, None, None).await, insufficient(), "{name}");
        let most = change(&service, name, user, i64::MAX - 100, None, Some("most")).await;
        assert_eq!(most, (200, balance_body(i64::MAX - 40)), "{name}");
        assert_eq!(change(&service, name, user, 1, None, None).await, beyond, "{name}");
        // Several at once: the fold of a batch has the same bound.
        let sent = (0..8).map(|_| change(&service, name, user, 1, None, None));
        for answer in futures_util::future::join_all(sent).await {
            assert_eq!(answer, beyond, "{name}");
        }
        let path = format!("/users/{user}");
        let shown = read(service.send(Method::GET, &path, None).await).await;
        let balance = i64::MAX - 40;
        let body = format!(r#"{{"id":{user},"balance":{balance},"held":40,"version":3}}"#);
        assert_eq!(shown, (200, body), "{name}");
        let row = history(&service, user).await.pop().unwrap();
        assert_eq!((&row["held"], &row["heldAmount"]), (&json!(40), &json!(0)), "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn the_history_shows_the_hold_and_the_other_side_of_each_entry() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let entry = async |user: i64, version: i64| {
        let path = format!("/users/{user}/changes?limit=1&before={}", version + 1);
        let (status, text) = read(service.send(Method::GET, &path, None).await).await;
        assert_eq!(status, 200, "{text}");
        let shown = text.strip_prefix(r#"{"changes":["#).unwrap();
        shown.split_once("],\"next\"").unwrap().0.to_owned()
    };
    let paid = r#"{"version":2,"kind":"transfer","amount":-500,"heldAmount":0,"balance":9500,"held":0,"createdAt":"2025-01-31T12:00:02.000001Z","reference":"rent 11","key":"pay","peer":{"user":102,"version":2}}"#;
    assert_eq!(entry(101, 2).await, paid);
    let got = r#"{"version":2,"kind":"transfer","amount":500,"heldAmount":0,"balance":10500,"held":0,"createdAt":"2025-01-31T12:00:02.000001Z","reference":"rent 11","peer":{"user":101,"version":2}}"#;
    assert_eq!(entry(102, 2).await, got);
    let held = r#"{"version":4,"kind":"hold","amount":-300,"heldAmount":300,"balance":8800,"held":700,"createdAt":"2025-01-31T12:00:04.000001Z","hold":4}"#;
    assert_eq!(entry(101, 4).await, held);
    let captured = r#"{"version":7,"kind":"capture","amount":150,"heldAmount":-400,"balance":8650,"held":600,"createdAt":"2025-01-31T12:00:07.000001Z","key":"capture","hold":3,"peer":{"user":102,"version":3}}"#;
    assert_eq!(entry(101, 7).await, captured);
    for (version, kind) in [(1, "change"), (8, "release"), (9, "expiry")] {
        let shown: Value = serde_json::from_str(&entry(101, version).await).unwrap();
        assert_eq!(shown["kind"], kind);
    }
    service.stop().await;
}
