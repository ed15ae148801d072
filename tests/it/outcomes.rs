//! The answers to changes that could not be confirmed: 503, 504 and 409 each keep their promise.

use std::sync::Arc;
use std::time::Duration;

use plimsoll::approach::registry;
use tokio::time::sleep;

use crate::cluster;
use crate::faults::{PATIENT, lock_row, until, waiting_for_locks};
use crate::proxy::Proxy;
use crate::service::{TestService, balance_body, error_body};
use crate::standby::Standby;

const RUNNING: &str = "A change with the same Idempotency-Key is still running, try again";
const UNKNOWN: &str = "Outcome unknown: the change may or may not have been applied";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_told_to_come_again_is_never_applied() {
    let service = Arc::new(TestService::start_with(&[("KEY_WAIT_SECS", "1"), PATIENT]).await);
    for name in registry::names() {
        let user = service.user_with(10).await;
        let lock = lock_row(&service, user).await;
        let send = || {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.keyed(name, user, -1, "k").await.0 })
        };
        let first = send();
        until("the first waits for the row", async || waiting_for_locks(&service).await > 0).await;
        let second = send();
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        assert_eq!(first.0, 503, "{name}");
        assert_eq!(second, (409, error_body(RUNNING)), "{name}");
        lock.rollback().await.unwrap();
        // A change still in flight would be applied before this one, in the same lane or on the row.
        assert_eq!(service.change(name, user, -2).await, (200, balance_body(8)), "{name}");
        assert_eq!(service.journal_rows(user).await, 2, "{name}");
        let retry = service.keyed(name, user, -1, "k").await;
        assert_eq!(retry, ((200, balance_body(7)), false), "{name}");
    }
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_applied_is_never_told_to_be_not_applied() {
    let (service, mut standby) = Standby::start(&[("ANSWER_TIMEOUT_SECS", "1")]).await;
    for name in registry::names() {
        let user = service.user_with(10).await;
        standby.hang(&service).await;
        let (answer, _) = service.keyed(name, user, -1, "k").await;
        assert_eq!(answer, (504, error_body(UNKNOWN)), "{name}");
        standby.go_on(&service).await;
        // Only the key can tell the outcome.
        until("the key tells", async || {
            let (answer, _) = service.keyed(name, user, -1, "k").await;
            answer == (200, balance_body(9))
        })
        .await;
        assert_eq!(service.journal_rows(user).await, 2, "{name}");
    }
    standby.close().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_an_unknown_outcome_and_the_change_is_there_once() {
    let database = cluster::shared().await.fresh_database().await;
    let proxy = Proxy::in_front_of(&database).await;
    let way = proxy.database.clone();
    let service = Arc::new(TestService::start_through(way, database, &[PATIENT]).await);
    for name in registry::names() {
        let user = service.user_with(10).await;
        assert_eq!(service.change(name, user, -1).await.0, 200, "{name}");
        let lock = lock_row(&service, user).await;
        let send = |key: Option<&'static str>| {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                match key {
                    Some(key) => service.keyed(name, user, -1, key).await.0,
                    None => service.change(name, user, -1).await,
                }
            })
        };
        let bare = send(None);
        until("it has been sent", async || waiting_for_locks(&service).await > 0).await;
        proxy.lose_answers(true);
        lock.rollback().await.unwrap();
        let (status, _) = bare.await.unwrap();
        proxy.lose_answers(false);
        let rows = service.journal_rows(user).await;
        match status {
            // The answer to a statement before the commit was lost, so nothing was applied.
            503 => assert_eq!(rows, 2, "{name}"),
            504 => assert!(matches!(rows, 2 | 3), "{name}: {rows} rows"),
            _ => panic!("{name}: {status}"),
        }
        // With a key, a retry by the lane or the client returns the outcome.
        until("the key tells", async || service.keyed(name, user, -1, "k").await.0.0 == 200).await;
        assert_eq!(service.journal_rows(user).await, rows + 1, "{name}");
    }
    drop(proxy);
    Arc::into_inner(service).unwrap().stop().await;
}

/// Here the change meets a lock time-out. Like the error that a sharded cluster relays, it means that
/// the change was rolled back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_another_process_uses_right_now_is_found_afterwards() {
    let service = Arc::new(TestService::start().await);
    for name in registry::names() {
        let user = service.user_with(10).await;
        let mut other = service.pool.begin().await.unwrap();
        // Without the row's lock: only the key's primary key stands in the way.
        sqlx::query(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) \
             VALUES ($1, 'k', 'change -1', '{9}')",
        )
        .bind(user)
        .execute(&mut *other)
        .await
        .unwrap();
        let sent = tokio::spawn({
            let service = Arc::clone(&service);
            async move { service.keyed(name, user, -1, "k").await }
        });
        until("it waits for the key", async || waiting_for_locks(&service).await > 0).await;
        sleep(Duration::from_millis(300)).await;
        sqlx::query(
            "WITH changed AS (UPDATE users SET balance = 9, version = 2, \
                 changed_at = now() WHERE id = $1) \
             INSERT INTO balance_changes \
                 (user_id, version, kind, amount, held_amount, balance, held, created_at, key) \
             VALUES ($1, 2, 'change', -1, 0, 9, 0, now(), 'k')",
        )
        .bind(user)
        .execute(&mut *other)
        .await
        .unwrap();
        other.commit().await.unwrap();
        assert_eq!(sent.await.unwrap(), ((200, balance_body(9)), true), "{name}");
    }
    Arc::into_inner(service).unwrap().stop().await;
}
