//! With a key, an operation happens at most once.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{entries, funds, post, reserve};
use crate::service::{Answer, TestService, error_body, insufficient, stop_both, two_instances};

#[tokio::test]
async fn every_operation_replays_its_success_and_its_refusal_byte_for_byte() {
    let service = TestService::start().await;
    let (user, other) = (service.user_with(100).await, service.user_with(0).await);
    let [captured, released] =
        [reserve(&service, user, 10).await, reserve(&service, user, 10).await];
    let (transfers, holds) = ("/transfers".to_owned(), format!("/users/{user}/holds"));
    let pay = |amount: i64| json!({ "from": user, "to": other, "amount": amount });
    let requests: Vec<(String, Value, u16)> = vec![
        (transfers.clone(), pay(5), 201),
        (transfers.clone(), pay(500), 400),
        (holds.clone(), json!({ "amount": 7, "expiresInSeconds": 60, "reference": "x" }), 201),
        (holds.clone(), json!({ "amount": 700 }), 400),
        (format!("{holds}/{captured}/capture"), json!({ "amount": 3, "to": other }), 200),
        (format!("{holds}/{released}/release"), json!({}), 200),
    ];
    let mut first = Vec::new();
    for (number, (path, body, status)) in requests.iter().enumerate() {
        let (answer, replayed) =
            post(&service, path, body.clone(), Some(&format!("k{number}"))).await;
        assert_eq!((answer.0, replayed), (*status, false), "{path}: {answer:?}");
        first.push(answer);
    }
    // Everything would be answered in another way now.
    service.change("self", user, 10_000).await;
    let before = (entries(&service, user).await, entries(&service, other).await);
    for (number, (path, body, _)) in requests.iter().enumerate() {
        let again = post(&service, path, body.clone(), Some(&format!("k{number}"))).await;
        assert_eq!(again, (first[number].clone(), true), "{path}");
        // The same key, and another request.
        let (path, body, _) = &requests[(number + 1) % requests.len()];
        let reused = post(&service, path, body.clone(), Some(&format!("k{number}"))).await;
        let sentence = "The Idempotency-Key was used before with another request";
        assert_eq!(reused, ((422, error_body(sentence)), false), "{path}");
    }
    assert_eq!((entries(&service, user).await, entries(&service, other).await), before);
    service.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_the_payer_and_is_one_for_changes_and_operations() {
    let service = TestService::start().await;
    let (one, other) = (service.user_with(100).await, service.user_with(100).await);
    let pay = |from: i64, to: i64| json!({ "from": from, "to": to, "amount": 5 });
    assert_eq!(post(&service, "/transfers", pay(one, other), Some("k")).await.0.0, 201);
    // The payee's keys are others.
    assert_eq!(post(&service, "/transfers", pay(other, one), Some("k")).await.0.0, 201);
    let reused = (422, error_body("The Idempotency-Key was used before with another request"));
    for name in plimsoll::approach::registry::names() {
        assert_eq!(service.keyed(name, one, -5, "k").await.0, reused, "{name}");
    }
    assert_eq!(service.keyed("batched", one, -5, "c").await.0.0, 200);
    assert_eq!(post(&service, "/transfers", pay(one, other), Some("c")).await.0, reused);
    service.stop().await;
}

#[tokio::test]
async fn what_was_not_decided_uses_no_key_up() {
    let service = TestService::start().await;
    let user = service.user_with(10).await;
    let hold = reserve(&service, user, 5).await;
    let missing = json!({ "from": user, "to": 1_000_000, "amount": 1 });
    assert_eq!(post(&service, "/transfers", missing, Some("k")).await.0.0, 404);
    let capture = format!("/users/{user}/holds/{hold}/capture");
    assert_eq!(post(&service, &capture, json!({ "amount": 6 }), Some("k")).await.0.0, 422);
    assert_eq!(post(&service, &capture, json!({}), Some("k")).await.0.0, 200);
    assert_eq!(post(&service, &capture, json!({}), Some("other")).await.0.0, 409);
    let pay = json!({ "from": user, "to": 1, "amount": 1 });
    assert_eq!(post(&service, "/transfers", pay, Some("other")).await.0.0, 201);
    service.stop().await;
}

/// User, path with body, and key of a request.
type Request = (i64, (String, Value), String);

/// A request of the operation with this number: it must take effect once.
fn request(operation: usize, user: i64, merchant: i64, hold: i64) -> (String, Value) {
    match operation {
        0 => ("/transfers".into(), json!({ "from": user, "to": merchant, "amount": 2 })),
        1 => (format!("/users/{user}/holds"), json!({ "amount": 3 })),
        2 => {
            (format!("/users/{user}/holds/{hold}/capture"), json!({ "amount": 1, "to": merchant }))
        }
        3 => {
            let paid = json!({ "userId": user, "amount": -1 });
            let got = json!({ "userId": merchant, "amount": 1 });
            ("/changes".into(), json!({ "mode": "all", "changes": [paid, got] }))
        }
        _ => (format!("/users/{user}/holds/{hold}/release"), json!({})),
    }
}

/// 1,000 keys for each operation, ten times each, and once more after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_copies_of_each_operation_one_takes_effect_and_all_get_its_answer() {
    const KEYS: usize = 1_000;
    let mut instances = two_instances(None).await;
    let merchant = instances[0].user_with(0).await;
    let mut users = Vec::new();
    for _ in 0..20 {
        users.push(instances[0].user_with(10_000).await);
    }
    let mut requests = Vec::new();
    for number in 0..5 * KEYS {
        let user = users[number % users.len()];
        let needs_hold = matches!(number % 5, 2 | 4);
        let hold = if needs_hold { reserve(&instances[0], user, 5).await } else { 0 };
        requests.push((user, request(number % 5, user, merchant, hold), format!("k{number}")));
    }
    let requests = Arc::new(requests);
    let mut before: Option<HashMap<usize, Answer>> = None;
    let mut state = None;
    for round in 0..2 {
        let answers = all_copies(&instances, &requests, if round == 0 { 10 } else { 1 }).await;
        if let Some(before) = before {
            assert_eq!(before, answers, "after a restart");
        }
        let mut now = vec![funds(&instances[0], merchant).await];
        for user in &users {
            now.push(funds(&instances[0], *user).await);
        }
        if let Some(state) = state {
            assert_eq!(state, now, "nothing has happened twice");
        }
        (before, state) = (Some(answers), Some(now));
        let database = instances[0].database.clone();
        stop_both(instances).await;
        instances = two_instances(Some(database)).await;
    }
    let (paid, _) = funds(&instances[0], merchant).await;
    // Of a transfer, of a capture, and of a bulk.
    assert_eq!(paid, i64::try_from(2 * KEYS + KEYS + KEYS).unwrap());
    stop_both(instances).await;
}

/// Sends each request so many times at once. All copies get the same answer, or are told to wait.
async fn all_copies(
    instances: &[Arc<TestService>; 2],
    requests: &Arc<Vec<Request>>,
    copies: usize,
) -> HashMap<usize, Answer> {
    let mut clients = JoinSet::new();
    for client in 0..40_usize {
        let (instances, requests) = (instances.clone(), Arc::clone(requests));
        clients.spawn(async move {
            let mut seen = Vec::new();
            for copy in (client..requests.len() * copies).step_by(40) {
                let number = copy / copies;
                let (_, (path, body), key) = &requests[number];
                let service = &instances[copy % 2];
                let (answer, _) = post(service, path, body.clone(), Some(key)).await;
                seen.push((number, answer));
            }
            seen
        });
    }
    let mut answers: HashMap<usize, Answer> = HashMap::new();
    for (number, answer) in clients.join_all().await.into_iter().flatten() {
        assert!(matches!(answer.0, 200 | 201), "{:?}: {answer:?}", requests[number]);
        let first = answers.entry(number).or_insert_with(|| answer.clone());
        assert_eq!(*first, answer, "{:?}", requests[number]);
    }
    assert_eq!(answers.len(), requests.len());
    answers
}

#[tokio::test]
async fn a_refusal_that_is_stored_stays_one() {
    let service = TestService::start().await;
    let user = service.user_with(0).await;
    let pay = json!({ "from": user, "to": 1, "amount": 1 });
    assert_eq!(post(&service, "/transfers", pay.clone(), Some("k")).await.0, insufficient());
    service.change("self", user, 100).await;
    assert_eq!(post(&service, "/transfers", pay, Some("k")).await, (insufficient(), true));
    assert_eq!(funds(&service, user).await, (100, 0));
    service.stop().await;
}
