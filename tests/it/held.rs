//! Rows that another transaction holds for long: only changes of their users wait.

use std::sync::Arc;
use std::time::Duration;

use plimsoll::approach::registry;
use reqwest::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::faults::{lock_row, until, waiting_for_locks};
use crate::service::{Answer, TestService, balance_body, error_body, read};

/// The limit for a change of any other user.
const OTHERS_MAX: Duration = Duration::from_secs(2);

/// The limit for the answer to a change of a held user, with some margin for a busy machine.
const HELD_MAX: Duration = Duration::from_secs(7);

fn not_applied() -> Answer {
    (503, error_body("Not applied, try again"))
}

/// Withdraws 1, with a key if `number` is odd.
async fn change(service: &TestService, name: &str, user: i64, number: usize) -> Answer {
    match number % 2 {
        0 => service.change(name, user, -1).await,
        _ => service.keyed(name, user, -1, &format!("{name}-{number}")).await.0,
    }
}

/// Holds the rows of some users, queues many changes of them, and checks that changes of other users
/// are not delayed. All go through one approach, every second change with a key.
async fn check_held_rows(service: &Arc<TestService>, name: &'static str, held: usize) {
    let mut users = Vec::new();
    for _ in 0..held {
        users.push(service.user_with(1_000).await);
    }
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(service.user_with(1_000).await);
    }
    let mut locks = Vec::new();
    for user in &users {
        locks.push(lock_row(service, *user).await);
    }
    let mut waiting = JoinSet::new();
    for (number, user) in users.iter().cycle().take(held.max(4) * 8).enumerate() {
        let (service, user) = (Arc::clone(service), *user);
        waiting.spawn(async move {
            let answer = timeout(HELD_MAX, change(&service, name, user, number)).await;
            (user, answer.expect("a change of a held user is answered in time"))
        });
    }
    // The first changes have reached the row.
    until("somebody waits for the row", async || waiting_for_locks(service).await > 0).await;
    let began = Instant::now();
    for (number, other) in others.iter().enumerate().cycle() {
        let answer = timeout(OTHERS_MAX, change(service, name, *other, number)).await;
        let (status, body) = answer.expect("nobody else waits for the row");
        // In later rounds, a change with a key is a replay.
        assert_eq!(status, 200, "{name}: {body}");
        if began.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    for (user, answer) in waiting.join_all().await {
        assert_eq!(answer, not_applied(), "{name}: user {user}");
    }
    for lock in locks {
        lock.rollback().await.unwrap();
    }
    let freed = Instant::now();
    for user in &users {
        let first = timeout(Duration::from_secs(1), service.change(name, *user, -1)).await;
        assert_eq!(first.expect("it goes on at once"), (200, balance_body(999)), "{name}");
        assert_eq!(service.journal_rows(*user).await, 2, "{name}: what was refused is not there");
    }
    assert!(freed.elapsed() < OTHERS_MAX, "{name}: {:?}", freed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_row_delays_nobody_else() {
    let service = Arc::new(TestService::start().await);
    for name in registry::names() {
        check_held_rows(&service, name, 1).await;
    }
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_held_rows_delay_nobody_else() {
    let service = Arc::new(TestService::start().await);
    for name in registry::names() {
        check_held_rows(&service, name, 10).await;
    }
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_let_go_in_time_was_only_slow() {
    let service = Arc::new(TestService::start().await);
    for name in registry::names() {
        let user = service.user_with(10).await;
        let lock = lock_row(&service, user).await;
        let first = tokio::spawn({
            let service = Arc::clone(&service);
            async move { service.keyed(name, user, -1, "k").await }
        });
        until("it waits for the row", async || waiting_for_locks(&service).await > 0).await;
        until("it waits apart", async || waiting_for_locks(&service).await == 0).await;
        lock.rollback().await.unwrap();
        let answer = timeout(Duration::from_secs(3), first).await.expect("soon").unwrap();
        assert_eq!(answer, ((200, balance_body(9)), false), "{name}");
        assert_eq!(service.keyed(name, user, -1, "k").await, ((200, balance_body(9)), true));
    }
    Arc::into_inner(service).unwrap().stop().await;
}

/// A locked table also blocks the query that looks for held rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_is_told_in_time_and_forgotten_at_once() {
    let service = Arc::new(TestService::start().await);
    let mut users = Vec::new();
    for name in (0..3).flat_map(|_| registry::names()) {
        users.push((name, service.user_with(10).await));
    }
    for mode in ["SHARE", "ACCESS EXCLUSIVE"] {
        let mut lock = service.pool.begin().await.unwrap();
        sqlx::query(&format!("LOCK TABLE users IN {mode} MODE")).execute(&mut *lock).await.unwrap();
        let mut waiting = JoinSet::new();
        for (name, user) in users.clone() {
            let service = Arc::clone(&service);
            waiting.spawn(async move {
                (name, timeout(HELD_MAX, service.change(name, user, -1)).await.expect("in time"))
            });
        }
        for (name, answer) in waiting.join_all().await {
            assert_eq!(answer, not_applied(), "{mode}: {name}");
        }
        lock.rollback().await.unwrap();
        for (name, user) in &users {
            let change = timeout(OTHERS_MAX, service.change(name, *user, -1)).await;
            assert_eq!(change.expect("it goes on at once").0, 200, "{mode}: {name}");
        }
    }
    Arc::into_inner(service).unwrap().stop().await;
}

/// Some transaction has the row locked at any moment, but none for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_keeps_changing_hands_is_not_held() {
    let service = Arc::new(TestService::start_with(&[("LOCK_WAIT_MILLIS", "40")]).await);
    for name in ["batched", "self"] {
        let user = service.user_with(1_000_000).await;
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut hands = JoinSet::new();
        for _ in 0..3 {
            let (service, stop) = (Arc::clone(&service), Arc::clone(&stop));
            hands.spawn(async move {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut hand = service.pool.begin().await.unwrap();
                    sqlx::query(
                        "WITH changed AS (UPDATE users SET version = version + 1, \
                             balance = balance + 1, \
                             changed_at = greatest(statement_timestamp(), changed_at) \
                             WHERE id = $1 RETURNING version, balance, changed_at) \
                         INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, \
                             balance, held, created_at) \
                         SELECT $1, version, 'change', 1, 0, balance, 0, changed_at FROM changed",
                    )
                    .bind(user)
                    .execute(&mut *hand)
                    .await
                    .unwrap();
                    // The time for which each transaction holds the row.
                    sleep(Duration::from_millis(20)).await;
                    hand.commit().await.unwrap();
                }
            });
        }
        until("it changes hands", async || service.journal_rows(user).await > 5).await;
        for _ in 0..5 {
            assert_eq!(service.change(name, user, -1).await.0, 200, "{name}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        hands.join_all().await;
    }
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_has_half_of_the_sessions_at_most_and_reads_have_their_own() {
    let variables = [
        ("POOL_SIZE", "4"),
        ("WORKERS", "1"),
        ("LOCK_WAIT_MILLIS", "60000"),
        ("ANSWER_TIMEOUT_SECS", "121"),
    ];
    let service = Arc::new(TestService::start_with(&variables).await);
    let (held, other) = (service.user_with(10).await, service.user_with(10).await);
    let lock = lock_row(&service, held).await;
    let mut waiting = JoinSet::new();
    for _ in 0..8 {
        let service = Arc::clone(&service);
        waiting.spawn(async move { service.change("self", held, -1).await.0 });
    }
    until("its share is used up", async || waiting_for_locks(&service).await == 2).await;
    for left in (0..5).rev() {
        // Eight changes of the held user want a session. This change must get one at once.
        let change = timeout(OTHERS_MAX, service.change("self", other, -2)).await;
        assert_eq!(change.expect("the other half goes on"), (200, balance_body(left * 2)));
        let path = format!("/users/{held}");
        let reading = timeout(OTHERS_MAX, service.send(Method::GET, &path, None)).await;
        assert_eq!(read(reading.expect("reads go on")).await.0, 200);
    }
    assert_eq!(waiting_for_locks(&service).await, 2);
    lock.rollback().await.unwrap();
    assert_eq!(waiting.join_all().await, [200; 8]);
    Arc::into_inner(service).unwrap().stop().await;
}
