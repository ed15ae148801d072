//! Expired holds: their money is there for whoever needs it, and is given back once.

use std::sync::Arc;
use std::time::Duration;

use plimsoll::approach::registry;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    LET_EXPIRE, capture, entries, funds, let_expire, post, release, reserve, state, transfer,
};
use crate::faults::{lock_row, until};
use crate::service::{
    TestService, balance_body, error_body, insufficient, stop_both, two_instances,
};

/// The sweep must not come first in these tests.
const NO_SWEEP: [(&str, &str); 1] = [("HOLD_SWEEP_SECS", "3600")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_debit_by_any_approach_gets_the_money_of_an_expired_hold() {
    let service = TestService::start_with(&NO_SWEEP).await;
    for name in registry::names() {
        for key in [None, Some("k")] {
            let user = service.user_with(100).await;
            let (first, second) =
                (reserve(&service, user, 60).await, reserve(&service, user, 40).await);
            assert_eq!(service.change(name, user, -1).await, insufficient(), "{name}");
            assert!(let_expire(&service, user, first).await);
            let answer = match key {
                None => service.change(name, user, -50).await,
                Some(key) => service.keyed(name, user, -50, key).await.0,
            };
            assert_eq!(answer, (200, balance_body(10)), "{name}, {key:?}");
            assert_eq!(state(&service, user, first).await, "expired", "{name}");
            assert_eq!(state(&service, user, second).await, "open", "{name}");
            let entry = entries(&service, user).await.remove(3);
            assert_eq!((entry.kind.as_str(), entry.amount), ("expiry", 60), "{name}");
            assert_eq!((entry.held_amount, entry.hold), (-60, Some(first)), "{name}");
            // It is not enough for this one, and nothing else has expired.
            assert_eq!(service.change(name, user, -11).await, insufficient(), "{name}");
        }
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_affordable_debit_leaves_an_expired_hold_alone() {
    let service = TestService::start_with(&NO_SWEEP).await;
    for name in registry::names() {
        let user = service.user_with(100).await;
        let hold = reserve(&service, user, 60).await;
        assert!(let_expire(&service, user, hold).await);
        assert_eq!(service.change(name, user, -40).await, (200, balance_body(0)), "{name}");
        assert_eq!(state(&service, user, hold).await, "open", "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn every_operation_gets_the_money_of_an_expired_hold() {
    let service = TestService::start_with(&NO_SWEEP).await;
    for operation in ["transfer", "hold"] {
        let user = service.user_with(100).await;
        let hold = reserve(&service, user, 100).await;
        assert!(let_expire(&service, user, hold).await);
        let status = match operation {
            "transfer" => transfer(&service, user, 1, 100).await.0,
            _ => {
                let path = format!("/users/{user}/holds");
                post(&service, &path, json!({ "amount": 100 }), Some("k")).await.0.0
            }
        };
        assert_eq!((status, state(&service, user, hold).await.as_str()), (201, "expired"));
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_24_withdrawals_that_need_one_expired_hold_the_affordable_ones_succeed() {
    let instances = two_instances(None).await;
    for round in 0..12 {
        let user = instances[0].user_with(100).await;
        let hold = reserve(&instances[0], user, 100).await;
        assert!(let_expire(&instances[0], user, hold).await);
        let mut clients = JoinSet::new();
        for client in 0..24_usize {
            let service = Arc::clone(&instances[client % 2]);
            let names: Vec<_> = registry::names().collect();
            clients.spawn(async move {
                match client % 6 {
                    5 => transfer(&service, user, 1, 10).await,
                    n => service.change(names[n % names.len()], user, -10).await,
                }
            });
        }
        let answers = clients.join_all().await;
        let accepted = answers.iter().filter(|(status, _)| matches!(status, 200 | 201)).count();
        assert_eq!(accepted, 10, "round {round}: {answers:?}");
        let refused = answers.iter().filter(|answer| **answer == insufficient()).count();
        assert_eq!(refused, 14, "round {round}: {answers:?}");
        let expiries =
            entries(&instances[0], user).await.iter().filter(|e| e.kind == "expiry").count();
        assert_eq!((expiries, funds(&instances[0], user).await), (1, (0, 0)));
    }
    stop_both(instances).await;
}

#[tokio::test]
async fn a_user_with_more_expired_holds_than_one_commit_releases_gets_them_all() {
    let service = TestService::start_with(&NO_SWEEP).await;
    for name in registry::names() {
        let user = service.user_with(1_200).await;
        // As many single reservations would take long.
        sqlx::query(
            "WITH made AS (UPDATE users SET balance = 0, held = 1200, version = 1201 WHERE id = $1), \
             entered AS (INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, \
                 balance, held, created_at, hold) \
                 SELECT $1, 1 + n, 'hold', -1, 1, 1200 - n, n, u.changed_at, 1 + n \
                 FROM generate_series(1, 1200) AS n, users u WHERE u.id = $1) \
             INSERT INTO holds (user_id, hold, amount, captured, state, created_at, expires_at) \
             SELECT $1, 1 + n, 1, 0, 'open', u.changed_at, u.changed_at + interval '1 microsecond' \
             FROM generate_series(1, 1200) AS n, users u WHERE u.id = $1",
        )
        .bind(user)
        .execute(&service.pool)
        .await
        .unwrap();
        assert_eq!(service.change(name, user, -1_200).await, (200, balance_body(0)), "{name}");
        assert_eq!(service.journal_rows(user).await, 2_402, "{name}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_releases_what_nobody_asks_for_and_no_locked_row_stops_it() {
    let service = TestService::start().await;
    let (held, free) = (service.user_with(10).await, service.user_with(10).await);
    let (first, second) = (reserve(&service, held, 10).await, reserve(&service, free, 10).await);
    let lock = lock_row(&service, held).await;
    sqlx::query(LET_EXPIRE).bind(held).bind(first).execute(&service.pool).await.unwrap();
    assert!(let_expire(&service, free, second).await);
    until("the sweep comes", async || state(&service, free, second).await == "expired").await;
    assert_eq!(state(&service, held, first).await, "open");
    lock.commit().await.unwrap();
    until("the sweep comes back", async || state(&service, held, first).await == "expired").await;
    assert_eq!(funds(&service, held).await, (10, 0));
    service.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_brings_no_hold_back() {
    let service = TestService::start_with(&NO_SWEEP).await;
    let user = service.user_with(100).await;
    let hold = reserve(&service, user, 100).await;
    // As if the clock had been two weeks ahead when something else of this user was written.
    sqlx::query("UPDATE users SET changed_at = now() + interval '14 days' WHERE id = $1")
        .bind(user)
        .execute(&service.pool)
        .await
        .unwrap();
    let expired = (409, error_body("The hold is expired"));
    assert_eq!(capture(&service, user, hold, json!({})).await, expired);
    assert_eq!(release(&service, user, hold).await, expired);
    assert_eq!(funds(&service, user).await, (100, 0));
    for name in registry::names() {
        let again = reserve(&service, user, 100).await;
        assert_eq!(service.change(name, user, -1).await, insufficient(), "{name}");
        assert_eq!(release(&service, user, again).await.0, 200);
    }
    service.stop().await;
}

/// A batch has one stamp, that of the user who is furthest ahead.
#[tokio::test]
async fn a_payee_who_is_ahead_of_the_clock_decides_whether_the_hold_of_the_payer_has_expired() {
    let service = TestService::start_with(&NO_SWEEP).await;
    let ahead = service.user_with(0).await;
    sqlx::query("UPDATE users SET changed_at = now() + interval '14 days' WHERE id = $1")
        .bind(ahead)
        .execute(&service.pool)
        .await
        .unwrap();
    let (one, other) = (service.user_with(100).await, service.user_with(100).await);
    let hold = reserve(&service, one, 100).await;
    let captured = capture(&service, one, hold, json!({ "to": ahead })).await;
    assert_eq!(captured, (409, error_body("The hold is expired")));
    assert_eq!(funds(&service, one).await, (100, 0));
    let hold = reserve(&service, other, 100).await;
    assert_eq!(transfer(&service, other, ahead, 100).await.0, 201);
    assert_eq!(state(&service, other, hold).await, "expired");
    assert_eq!(funds(&service, ahead).await, (100, 0));
    service.stop().await;
}

#[tokio::test]
async fn an_atomic_bulk_gets_the_money_of_the_expired_holds_of_all_its_users() {
    let service = TestService::start_with(&NO_SWEEP).await;
    let mut changes = Vec::new();
    for _ in 0..40 {
        let user = service.user_with(10).await;
        let hold = reserve(&service, user, 10).await;
        assert!(let_expire(&service, user, hold).await);
        changes.push(json!({ "userId": user, "amount": -10 }));
    }
    let body = json!({ "mode": "all", "changes": changes });
    let (answer, _) = post(&service, "/changes", body, None).await;
    assert_eq!(answer.0, 200, "{answer:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_beside_a_held_row_is_still_answered_in_time() {
    let service = TestService::start_with(&NO_SWEEP).await;
    for name in registry::names() {
        let user = service.user_with(10).await;
        let hold = reserve(&service, user, 10).await;
        assert!(let_expire(&service, user, hold).await);
        let lock = lock_row(&service, user).await;
        let answer = timeout(Duration::from_secs(8), service.change(name, user, -5)).await;
        assert_eq!(answer.unwrap(), (503, error_body("Not applied, try again")), "{name}");
        lock.rollback().await.unwrap();
        assert_eq!(service.change(name, user, -5).await, (200, balance_body(5)), "{name}");
    }
    service.stop().await;
}
