//! With a key, a change is applied at most once, for any number of copies and through any approach.

use std::sync::Arc;
use std::time::Duration;

use plimsoll::approach::registry;
use plimsoll::store::key_expiry;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::faults::{PATIENT, lock_row, until, waiting_for_locks};
use crate::service::{
    TestService, balance_body, error_body, insufficient, read, stop_both, two_instances,
};

#[tokio::test]
async fn the_same_key_replays_success_and_refusal_byte_for_byte() {
    let service = TestService::start().await;
    for name in registry::names() {
        let user = service.user_with(10).await;
        let first = service.keyed(name, user, -7, "\"pay-1\"").await;
        assert_eq!(first, ((200, balance_body(3)), false), "{name}");
        let refused = service.keyed(name, user, -4, "pay-2").await;
        assert_eq!(refused, (insufficient(), false), "{name}");
        // The balance can pay for it now. The stored answer must not change.
        service.change(name, user, 100).await;
        assert_eq!(service.keyed(name, user, -7, "pay-1").await, (first.0, true), "{name}");
        assert_eq!(service.keyed(name, user, -4, "pay-2").await, (refused.0, true), "{name}");
        assert_eq!(service.balance_of(user).await, 103, "{name}");
        assert_eq!(service.journal_rows(user).await, 3, "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_user_and_one_request() {
    let service = TestService::start().await;
    let reused = (422, error_body("The Idempotency-Key was used before with another request"));
    for name in registry::names() {
        let (one, other) = (service.user_with(10).await, service.user_with(10).await);
        assert_eq!(service.keyed(name, one, -1, "k").await.0, (200, balance_body(9)), "{name}");
        assert_eq!(service.keyed(name, one, -2, "k").await, (reused.clone(), false), "{name}");
        assert_eq!(service.keyed(name, one, 0, "k").await, (reused.clone(), false), "{name}");
        assert_eq!(service.keyed(name, other, -2, "k").await.0, (200, balance_body(8)), "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_key_used_through_one_approach_replays_through_every_other() {
    let service = TestService::start().await;
    for first in registry::names() {
        let user = service.user_with(10).await;
        for (amount, key) in [(-7, "fits"), (-7, "does-not"), (0, "reads")] {
            let (answer, _) = service.keyed(first, user, amount, key).await;
            for name in registry::names() {
                let again = service.keyed(name, user, amount, key).await;
                assert_eq!(again, (answer.clone(), true), "{first} then {name}: {key}");
            }
        }
        assert_eq!(service.balance_of(user).await, 3);
    }
    service.stop().await;
}

#[tokio::test]
async fn what_was_not_decided_burns_no_key() {
    let service = TestService::start().await;
    for name in registry::names() {
        let user = service.user_with(10).await;
        for amount in [i64::MAX, i64::MAX] {
            let (answer, replayed) = service.keyed(name, user, amount, "k").await;
            assert_eq!(answer, (400, error_body("Balance out of range")), "{name}");
            assert!(!replayed, "{name}");
        }
        assert_eq!(service.keyed(name, 999_999, 1, "k").await.0.0, 404, "{name}");
        assert_eq!(service.keyed(name, user, -1, "k").await.0, (200, balance_body(9)), "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn without_a_key_two_equal_requests_are_two_changes() {
    let service = TestService::start().await;
    for name in registry::names() {
        let user = service.user_with(10).await;
        assert_eq!(service.change(name, user, -3).await, (200, balance_body(7)), "{name}");
        assert_eq!(service.change(name, user, -3).await, (200, balance_body(4)), "{name}");
    }
    service.stop().await;
}

/// Sends `duplicates` copies of `keys` changes by -1 at once, alternating between two instances,
/// copy `i` through approach `i`. Returns the number of new changes and of replays.
async fn flood(
    instances: &[Arc<TestService>; 2],
    names: &[&'static str],
    user: i64,
    keys: usize,
    duplicates: usize,
) -> (usize, usize) {
    let mut clients = JoinSet::new();
    for client in 0..40 {
        let (instances, names) = (instances.clone(), names.to_vec());
        clients.spawn(async move {
            let mut answers = Vec::new();
            for i in (client..keys * duplicates).step_by(40) {
                let (key, copy) = (i / duplicates, i % duplicates);
                let name = names[copy % names.len()];
                let key = format!("k{key}");
                let answer = instances[i % 2].keyed(name, user, -1, &key).await;
                answers.push((key, answer));
            }
            answers
        });
    }
    let mut first_bodies = std::collections::HashMap::new();
    let (mut fresh, mut replays) = (0, 0);
    while let Some(answers) = clients.join_next().await {
        for (key, (answer, replayed)) in answers.unwrap() {
            assert_eq!(answer.0, 200, "{answer:?}");
            *if replayed { &mut replays } else { &mut fresh } += 1;
            let first = first_bodies.entry(key.clone()).or_insert_with(|| answer.clone());
            assert_eq!(*first, answer, "{key}: equal keys have equal bytes");
        }
    }
    (fresh, replays)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_duplicates_a_thousand_are_changes_and_the_rest_replays() {
    let instances = two_instances(None).await;
    let database = instances[0].database.clone();
    let all: Vec<_> = registry::names().collect();
    let line_ups: Vec<_> = all.iter().map(|name| vec![*name]).chain([all.clone()]).collect();
    let mut users = Vec::new();
    for names in &line_ups {
        let user = instances[0].user_with(2_000).await;
        assert_eq!(flood(&instances, names, user, 1_000, 10).await, (1_000, 9_000), "{names:?}");
        assert_eq!(instances[0].balance_of(user).await, 1_000, "{names:?}");
        users.push(user);
    }
    stop_both(instances).await;
    // After a restart, all are replays.
    let instances = two_instances(Some(database)).await;
    for (names, user) in line_ups.iter().zip(users) {
        assert_eq!(flood(&instances, names, user, 1_000, 2).await, (0, 2_000), "{names:?}");
        assert_eq!(instances[0].journal_rows(user).await, 1_001, "{names:?}");
    }
    stop_both(instances).await;
}

#[tokio::test]
async fn keys_survive_a_restart() {
    let service = TestService::start().await;
    let first = service.keyed("self", 1, -2, "k").await.0;
    let database = service.database.clone();
    service.stop().await;
    let again = TestService::start_on(database, &[]).await;
    for name in registry::names() {
        assert_eq!(again.keyed(name, 1, -2, "k").await, (first.clone(), true), "{name}");
    }
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_waits_for_the_first_and_is_told_when_that_takes_too_long() {
    let service = Arc::new(TestService::start_with(&[("KEY_WAIT_SECS", "1"), PATIENT]).await);
    for name in registry::names() {
        let user = service.user_with(10).await;
        let lock = lock_row(&service, user).await;
        let first = tokio::spawn({
            let service = Arc::clone(&service);
            async move { service.keyed(name, user, -1, "k").await }
        });
        until("the first waits for the row", async || waiting_for_locks(&service).await == 1).await;
        let (second, _) = service.keyed(name, user, -1, "k").await;
        let running = "A change with the same Idempotency-Key is still running, try again";
        assert_eq!(second, (409, error_body(running)), "{name}");
        lock.rollback().await.unwrap();
        assert_eq!(first.await.unwrap(), ((200, balance_body(9)), false), "{name}");
        assert_eq!(service.keyed(name, user, -1, "k").await, ((200, balance_body(9)), true));
    }
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test]
async fn malformed_keys_are_refused_and_change_nothing() {
    let service = TestService::start().await;
    let rule = "Idempotency-Key must be 1 to 255 visible ASCII characters, \
                bare or as a string in double quotes";
    let long = "x".repeat(256);
    for key in ["", "\"\"", "\"open", "a b", "caf\u{e9}", &long] {
        let (answer, _) = service.keyed("self", 1, -2, key).await;
        assert_eq!(answer, (400, error_body(rule)), "{key:?}");
    }
    let twice = service
        .client
        .patch(format!("{}/approach/self/balance", service.url))
        .header("content-type", "application/json")
        .header("idempotency-key", "a")
        .header("idempotency-key", "a")
        .body(r#"{"userId":1,"amount":-2}"#);
    let answer = read(twice.send().await.unwrap()).await;
    assert_eq!(answer, (400, error_body("Idempotency-Key must not be given twice")));
    assert_eq!(service.balance_of(1).await, 10_000);
    service.stop().await;
}

#[tokio::test]
async fn creating_a_user_takes_a_key_as_well() {
    let service = TestService::start().await;
    let create = async |balance: i64, key: &str| {
        let request = service
            .client
            .post(format!("{}/users", service.url))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(json!({ "balance": balance }).to_string());
        let response = request.send().await.unwrap();
        let replayed = response.headers().contains_key("idempotent-replayed");
        let location = response.headers().get("location").cloned();
        (read(response).await, location, replayed)
    };
    let (answers, _) = tokio::join!(
        async {
            let mut answers = Vec::new();
            for _ in 0..5 {
                answers.push(create(50, "k").await);
            }
            answers
        },
        async {
            for _ in 0..5 {
                assert_eq!(create(50, "k").await.0.0, 201);
            }
        }
    );
    for (answer, location, _) in &answers {
        assert_eq!(*answer, answers[0].0);
        assert_eq!(*location, answers[0].1);
    }
    assert!(answers[4].2, "the last is a replay");
    let users: i64 =
        sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&service.pool).await.unwrap();
    assert_eq!(users, 2);
    assert_eq!(create(51, "k").await.0.0, 422);
    service.send(Method::POST, "/users", Some(json!({ "balance": 50 }))).await;
    service.stop().await;
}

#[tokio::test]
async fn old_keys_are_removed_and_young_ones_stay() {
    let service = TestService::start().await;
    for key in 0..1_200 {
        sqlx::query(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, answer, created_at) \
             VALUES (1, $1, 'change -1', NULL, now() - interval '8 days')",
        )
        .bind(format!("old{key}"))
        .execute(&service.pool)
        .await
        .unwrap();
    }
    service.keyed("self", 1, -2, "young").await;
    let week = Duration::from_secs(7 * 24 * 3600);
    // One old key is locked by another transaction: it must be skipped, not waited for.
    let mut busy = service.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM idempotency_keys WHERE key = 'old7' FOR UPDATE")
        .execute(&mut *busy)
        .await
        .unwrap();
    let mut connection = service.pool.acquire().await.unwrap();
    assert_eq!(key_expiry::remove_older_than(&mut connection, week).await.unwrap(), 1_199);
    busy.rollback().await.unwrap();
    assert_eq!(key_expiry::remove_older_than(&mut connection, week).await.unwrap(), 1);
    drop(connection);
    assert!(service.keyed("self", 1, -2, "young").await.1, "it still replays");
    service.stop().await;
}
