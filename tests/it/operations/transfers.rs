//! Transfers: two entries that name each other, or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use plimsoll::approach::registry;
use serde_json::json;
use tokio::task::JoinSet;

use super::{entries, funds, get, post, total, transfer};
use crate::faults::{lock_row, until, waiting_for_locks};
use crate::service::{TestService, error_body, insufficient, stop_both, two_instances};

#[tokio::test]
async fn both_sides_are_answered_and_name_each_other_in_the_journal() {
    let service = TestService::start().await;
    let (from, to) = (service.user_with(10_000).await, service.user_with(7).await);
    let body = json!({ "from": from, "to": to, "amount": 500, "reference": "invoice 17" });
    let (answer, replayed) = post(&service, "/transfers", body, Some("pay")).await;
    let expected = json!({
        "from": { "id": from, "balance": 9_500, "version": 2 },
        "to": { "id": to, "balance": 507, "version": 2 }
    });
    assert_eq!((answer, replayed), ((201, expected.to_string()), false));
    let (paid, received) =
        (entries(&service, from).await.remove(1), entries(&service, to).await.remove(1));
    assert_eq!((paid.kind.as_str(), paid.amount, paid.balance), ("transfer", -500, 9_500));
    assert_eq!((paid.peer_user, paid.peer_version), (Some(to), Some(2)));
    assert_eq!((received.kind.as_str(), received.amount, received.balance), ("transfer", 500, 507));
    assert_eq!((received.peer_user, received.peer_version), (Some(from), Some(2)));
    assert_eq!(paid.created_at, received.created_at);
    assert_eq!((paid.key.as_deref(), received.key.as_deref()), (Some("pay"), None));
    for entry in [paid, received] {
        assert_eq!(entry.reference.as_deref(), Some("invoice 17"));
        assert_eq!((entry.held_amount, entry.held, entry.hold), (0, 0, None));
    }
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_named_and_moves_nothing() {
    let service = TestService::start().await;
    let (poor, rich) = (service.user_with(10).await, service.user_with(i64::MAX).await);
    let missing = 1_000_000;
    for (from, to, answer) in [
        (poor, rich, (400, error_body("to: Balance out of range"))),
        (poor, missing, (404, error_body("to: User not found"))),
        (missing, poor, (404, error_body("from: User not found"))),
        (poor, poor, (400, error_body("from and to must be different users"))),
    ] {
        assert_eq!(transfer(&service, from, to, 1).await, answer);
    }
    assert_eq!(transfer(&service, poor, 1, 11).await, insufficient());
    for (body, sentence) in [
        (json!({ "from": 1, "to": 2 }), "from, to and amount are required"),
        (json!({ "from": 1, "to": null, "amount": 1 }), "from, to and amount are required"),
        (
            json!({ "from": 1, "to": 2, "amount": 0 }),
            "amount must be a whole number from 1 to 9223372036854775807",
        ),
        (
            json!({ "from": 1, "to": 2, "amount": -5 }),
            "amount must be a whole number from 1 to 9223372036854775807",
        ),
        (
            json!({ "from": 0, "to": 2, "amount": 5 }),
            "from must be a whole number from 1 to 9223372036854775807",
        ),
        (
            json!({ "from": 1, "to": 2, "amount": 5, "currency": "EUR" }),
            "Unknown member \"currency\"; the request body may have from, to, amount, reference",
        ),
    ] {
        let (answer, _) = post(&service, "/transfers", body, None).await;
        assert_eq!(answer, (400, error_body(sentence)));
    }
    assert_eq!(service.journal_rows(poor).await + service.journal_rows(rich).await, 2);
    assert_eq!(
        (funds(&service, poor).await, funds(&service, rich).await),
        ((10, 0), (i64::MAX, 0))
    );
    service.stop().await;
}

/// While the merchant's row is locked, the transfers of the chain queue up, and then share a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_payments_within_a_batch_works_in_the_order_of_arrival() {
    let service = Arc::new(TestService::start_with(&[("LOCK_WAIT_MILLIS", "4000")]).await);
    let mut users = vec![service.user_with(100).await];
    for _ in 0..6 {
        users.push(service.user_with(0).await);
    }
    let merchant = service.user_with(0).await;
    let lock = lock_row(&service, merchant).await;
    let first = tokio::spawn({
        let service = Arc::clone(&service);
        async move { transfer(&service, 1, merchant, 1).await }
    });
    until("the batch waits", async || waiting_for_locks(&service).await == 1).await;
    let mut chain = Vec::new();
    for pair in users.windows(2) {
        let (service, from, to) = (Arc::clone(&service), pair[0], pair[1]);
        let expected = queued_operations(&service).await + 1;
        chain.push(tokio::spawn({
            let service = Arc::clone(&service);
            async move { transfer(&service, from, to, 100).await }
        }));
        until("it is queued", async || queued_operations(&service).await == expected).await;
    }
    lock.rollback().await.unwrap();
    assert_eq!(first.await.unwrap().0, 201);
    for payment in chain {
        let (status, text) = payment.await.unwrap();
        assert_eq!(status, 201, "{text}");
    }
    assert_eq!(funds(&service, users[6]).await, (100, 0));
    let stamps = created_at(&service, &users[1..6]).await;
    assert_eq!(stamps.len(), 1, "one batch: {stamps:?}");
    Arc::into_inner(service).unwrap().stop().await;
}

/// How many operations wait for a batch.
async fn queued_operations(service: &TestService) -> u64 {
    let (_, text) = get(service, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix("plimsoll_operation_queue "));
    line.unwrap().parse().unwrap()
}

/// The different stamps of all entries of these users.
async fn created_at(service: &TestService, users: &[i64]) -> BTreeSet<String> {
    let mut stamps = BTreeSet::new();
    for user in users {
        stamps.extend(entries(service, *user).await.into_iter().map(|entry| entry.created_at));
    }
    stamps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_pays_everybody_through_two_instances_and_nothing_is_lost() {
    let instances = two_instances(None).await;
    let mut users = Vec::new();
    for _ in 0..10 {
        users.push(instances[0].user_with(50).await);
    }
    let before = total(&instances[0]).await;
    let mut clients = JoinSet::new();
    for client in 0..64_usize {
        let (service, users) = (Arc::clone(&instances[client % 2]), users.clone());
        clients.spawn(async move {
            let mut random = fastrand::Rng::with_seed(client as u64);
            let mut accepted = 0_u64;
            for _ in 0..40 {
                let from = random.usize(0..users.len());
                let to = (from + random.usize(1..users.len())) % users.len();
                let amount = random.i64(1..40);
                let (status, text) = transfer(&service, users[from], users[to], amount).await;
                match status {
                    201 => accepted += 1,
                    _ => assert_eq!((status, text), insufficient()),
                }
            }
            accepted
        });
    }
    let accepted: u64 = clients.join_all().await.into_iter().sum();
    assert!(accepted > 500, "{accepted}");
    assert_eq!(total(&instances[0]).await, before);
    let mut rows = 0;
    for user in users {
        rows += service_rows(&instances[0], user).await;
    }
    assert_eq!(rows, 2 * accepted);
    stop_both(instances).await;
}

/// The entries of kind `transfer` of a user.
async fn service_rows(service: &TestService, user: i64) -> u64 {
    entries(service, user).await.iter().filter(|entry| entry.kind == "transfer").count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_and_changes_through_every_approach_stay_exact_on_the_same_users() {
    let instances = two_instances(None).await;
    let (one, other) = (instances[0].user_with(200).await, instances[0].user_with(200).await);
    let mut clients = JoinSet::new();
    for client in 0..60_usize {
        let service = Arc::clone(&instances[client % 2]);
        let names: Vec<&'static str> = registry::names().collect();
        clients.spawn(async move {
            let mut sum = 0;
            for round in 0..30_usize {
                let (from, to) =
                    if (client + round) % 3 == 0 { (other, one) } else { (one, other) };
                if round % 2 == 0 {
                    let (status, text) = transfer(&service, from, to, 7).await;
                    assert!(status == 201 || (status, text) == insufficient());
                    continue;
                }
                let amount = if round % 4 == 1 { -5 } else { 3 };
                let name = names[(client + round) % names.len()];
                let (status, text) = service.change(name, from, amount).await;
                match status {
                    200 => sum += amount,
                    _ => assert_eq!((status, text), insufficient(), "{name}"),
                }
            }
            sum
        });
    }
    let changed: i64 = clients.join_all().await.into_iter().sum();
    let (one, other) = (funds(&instances[0], one).await, funds(&instances[0], other).await);
    assert_eq!(one.0 + other.0, 400 + changed);
    stop_both(instances).await;
}
