//! Mode `all`: everything or nothing.

use std::collections::HashMap;
use std::sync::Arc;

use reqwest::Response;
use serde_json::{Value, json};

use super::{keyed, keyless, send};
use crate::faults::{PATIENT, lock_row, until, waiting_for_locks};
use crate::service::{Answer, TestService, balance_body, error_body, read};

fn all(changes: &[Value]) -> Value {
    json!({ "mode": "all", "changes": changes })
}

async fn post_with_key(service: &TestService, changes: &[Value], key: &str) -> Response {
    let request = service.client.post(format!("{}/changes", service.url));
    let request = request.header("content-type", "application/json").header("idempotency-key", key);
    request.body(all(changes).to_string()).send().await.unwrap()
}

/// Sends a bulk with a key. Returns also whether the answer is a replay.
async fn send_with_key(service: &TestService, changes: &[Value], key: &str) -> (Answer, bool) {
    let response = post_with_key(service, changes, key).await;
    let replayed = response.headers().contains_key("idempotent-replayed");
    (read(response).await, replayed)
}

#[tokio::test]
async fn everything_is_applied_in_order() {
    let service = TestService::start().await;
    let (one, other) = (service.user_with(5).await, service.user_with(0).await);
    let changes =
        [keyless(one, -5), keyless(other, 7), keyless(one, 2), keyless(other, 0), keyless(one, -1)];
    let results =
        r#"{"results":[{"balance":0},{"balance":7},{"balance":2},{"balance":7},{"balance":1}]}"#;
    assert_eq!(send(&service, all(&changes)).await, (200, results.to_owned()));
    assert_eq!((service.journal_rows(one).await, service.journal_rows(other).await), (4, 1));
    service.stop().await;
}

#[tokio::test]
async fn the_first_change_that_fails_is_named_and_nothing_is_applied() {
    let service = TestService::start().await;
    let (poor, rich) = (service.user_with(5).await, service.user_with(i64::MAX).await);
    let key_of_all =
        "key is not for mode all: send the header Idempotency-Key for all changes together";
    for (last, status, sentence) in [
        (keyless(poor, -5), 400, "Insufficient funds"),
        (keyless(4_711, 1), 404, "User not found"),
        (keyless(rich, 1), 400, "Balance out of range"),
        (keyed(poor, 1, "k"), 400, key_of_all),
        (json!({ "userId": poor }), 400, "userId and amount are required"),
        (
            json!([poor, 1]),
            400,
            "A change must be a JSON object with userId, amount, key, reference",
        ),
    ] {
        let changes = [keyless(poor, -1), keyless(rich, -1), keyless(rich, 1), last, keyless(1, 1)];
        let answer = send(&service, all(&changes)).await;
        assert_eq!(answer, (status, error_body(&format!("changes[3]: {sentence}"))));
    }
    assert_eq!((service.journal_rows(poor).await, service.journal_rows(rich).await), (1, 1));
    service.stop().await;
}

#[tokio::test]
async fn one_key_is_that_of_the_whole() {
    let service = TestService::start().await;
    let (one, other) = (service.user_with(5).await, service.user_with(5).await);
    let changes = [keyless(one, -5), keyless(other, -5)];
    let done = (200, r#"{"results":[{"balance":0},{"balance":0}]}"#.to_owned());
    assert_eq!(send_with_key(&service, &changes, "k").await, (done.clone(), false));
    assert_eq!(send_with_key(&service, &changes, "k").await, (done.clone(), true));
    let refused = (400, error_body("changes[1]: Insufficient funds"));
    let more = [keyless(one, 3), keyless(other, -5)];
    assert_eq!(send_with_key(&service, &more, "refused").await, (refused.clone(), false));
    service.change("self", other, 100).await;
    assert_eq!(send_with_key(&service, &more, "refused").await, (refused, true));
    // The key belongs to the user of the first change, and to these changes in this order.
    let used = "The Idempotency-Key was used before with another request";
    assert_eq!(send_with_key(&service, &changes[..1], "k").await.0, (422, error_body(used)));
    assert_eq!(service.keyed("self", one, -5, "k").await.0, (422, error_body(used)));
    let swapped = [keyless(other, -5), keyless(one, 0)];
    assert_eq!(send_with_key(&service, &swapped, "k").await.0.0, 200);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_whose_key_is_in_use_by_a_change_is_a_409() {
    let service = Arc::new(TestService::start_with(&[("KEY_WAIT_SECS", "1"), PATIENT]).await);
    let user = service.user_with(5).await;
    let lock = lock_row(&service, user).await;
    let first = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.keyed("self", user, -1, "k").await.0 }
    });
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    let (answer, _) = send_with_key(&service, &[keyless(user, -1)], "k").await;
    assert_eq!(answer.0, 409, "{answer:?}");
    lock.rollback().await.unwrap();
    assert_eq!(first.await.unwrap(), (200, balance_body(4)));
    Arc::into_inner(service).unwrap().stop().await;
}

/// Copies of each key, sent at once. Returns how many answers were no replay.
async fn flood(service: &Arc<TestService>, users: [i64; 2], keys: usize, copies: usize) -> usize {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..20 {
        let service = Arc::clone(service);
        clients.spawn(async move {
            let mut answers = Vec::new();
            for number in (client..keys * copies).step_by(20) {
                let key = number / copies;
                let changes = [keyless(users[0], -1), keyless(users[1], 1)];
                let answer = send_with_key(&service, &changes, &format!("k{key}")).await;
                answers.push((key, answer));
            }
            answers
        });
    }
    let (mut first, mut fresh) = (HashMap::new(), 0);
    for (key, (answer, replayed)) in clients.join_all().await.into_iter().flatten() {
        assert_eq!(answer.0, 200, "{answer:?}");
        fresh += usize::from(!replayed);
        assert_eq!(*first.entry(key).or_insert_with(|| answer.clone()), answer, "{key}");
    }
    fresh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_duplicates_a_thousand_are_bulks() {
    let service = Arc::new(TestService::start().await);
    let database = service.database.clone();
    let users = [service.user_with(1_500).await, service.user_with(0).await];
    assert_eq!(flood(&service, users, 1_000, 10).await, 1_000);
    assert_eq!(service.balance_of(users[0]).await, 500);
    Arc::into_inner(service).unwrap().stop().await;
    let service = Arc::new(TestService::start_on(database, &[]).await);
    assert_eq!(flood(&service, users, 1_000, 2).await, 0);
    assert_eq!(service.balance_of(users[1]).await, 1_000);
    Arc::into_inner(service).unwrap().stop().await;
}
