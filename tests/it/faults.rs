//! Faults at runtime: clients that hang up, a database that stalls, killed processes.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plimsoll::approach::registry;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster;
use crate::service::{TestService, balance_body, error_body, insufficient, read};

/// Waits until `check` is true. Panics with `what` after 30 s.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Sends one change on a connection of its own and closes it without reading the answer.
pub(crate) async fn send_and_hang_up(service: &TestService, name: &str, user: i64, amount: i64) {
    let body = format!("{{\"userId\":{user},\"amount\":{amount}}}");
    let request = format!(
        "PATCH /approach/{name}/balance HTTP/1.1\r\nhost: x\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_changes_survive_clients_that_hang_up_in_the_middle() {
    let service = TestService::start_with(&[("POOL_SIZE", "2")]).await;
    for name in registry::names() {
        let user = service.user_with(1_000_000).await;
        for round in 1..=20 {
            for _ in 0..10 {
                send_and_hang_up(&service, name, user, -1).await;
            }
            // A session left inside an untracked transaction would acknowledge this and lose it.
            let (status, _) = service.change(name, user, -1_000).await;
            assert_eq!(status, 200, "{name}");
            let balance = service.balance_of(user).await;
            assert!(balance <= 1_000_000 - 1_000 * round, "{name}: an acknowledged change is gone");
        }
        // Changes of the clients that hung up may still be in flight. After them, the balance
        // through the service and the stored balance must agree.
        until("service and database agree", async || {
            let stored = service.balance_of(user).await;
            service.change(name, user, 0).await == (200, balance_body(stored))
        })
        .await;
    }
    service.stop().await;
}

async fn is_running(service: &TestService, pid: i32) -> bool {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)")
        .bind(pid)
        .fetch_one(&service.pool)
        .await
        .unwrap()
}

/// Sends a signal to every backend of the service's own connections.
pub(crate) async fn signal_backends(service: &TestService, signal: &str) {
    let pids: Vec<i32> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'plimsoll'",
    )
    .fetch_all(&service.pool)
    .await
    .unwrap();
    assert!(!pids.is_empty());
    for pid in pids {
        let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
        // A backend whose connection was just replaced may have exited by now.
        assert!(status.success() || !is_running(service, pid).await, "kill {signal} {pid}");
    }
}

/// Terminates every session of the service.
pub(crate) async fn end_sessions(service: &TestService) {
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'plimsoll'",
    )
    .execute(&service.pool)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stalls_is_an_unknown_outcome_and_loses_nothing_acknowledged() {
    let service =
        TestService::start_with(&[("POOL_SIZE", "2"), ("ANSWER_TIMEOUT_SECS", "1")]).await;
    for name in registry::names() {
        let user = service.user_with(1_001).await;
        // After this, approaches that connect on first use are connected.
        assert_eq!(service.change(name, user, -1).await.0, 200, "{name}");
        signal_backends(&service, "-STOP").await;
        let answer = service.change(name, user, -1).await;
        signal_backends(&service, "-CONT").await;
        assert_eq!(answer.0, 504, "{name}: {answer:?}");
        // Once the sessions are idle again, every acknowledged change is stored.
        until("the stalled change ends", async || service.change(name, user, 0).await.0 == 200)
            .await;
        for _ in 0..8 {
            let (status, body) = service.change(name, user, -1).await;
            assert_eq!(status, 200, "{name}");
            assert_eq!(body, balance_body(service.balance_of(user).await), "{name}");
        }
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_from_a_database_that_stalls_leaves_nothing_unknown() {
    let service =
        TestService::start_with(&[("POOL_SIZE", "2"), ("ANSWER_TIMEOUT_SECS", "1")]).await;
    let user = service.user_with(7).await;
    let zero = json!({ "userId": user, "amount": 0 });
    for (method, path, body) in [
        (Method::PATCH, "/approach/self/balance".to_owned(), Some(zero)),
        (Method::GET, format!("/users/{user}"), None),
        (Method::GET, format!("/users/{user}/changes"), None),
    ] {
        let send = async || read(service.send(method.clone(), &path, body.clone()).await).await;
        until("the last read has ended", async || send().await.0 == 200).await;
        signal_backends(&service, "-STOP").await;
        let answer = send().await;
        signal_backends(&service, "-CONT").await;
        // On a slow machine the connection may have been idle for so long that it is replaced.
        assert!(matches!(answer.0, 200 | 503), "{answer:?}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rested_connection_that_does_not_answer_is_replaced() {
    let service = TestService::start_with(&[("POOL_SIZE", "2")]).await;
    let user = service.user_with(7).await;
    // Longer than the service uses an idle connection without checking it.
    sleep(Duration::from_millis(1_200)).await;
    signal_backends(&service, "-STOP").await;
    let change = service.change("self", user, -1);
    let answer = timeout(Duration::from_secs(30), change).await;
    signal_backends(&service, "-CONT").await;
    assert_eq!(answer.expect("not after POOL_WAIT_SECS"), (200, balance_body(6)));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_free_connection_a_change_is_refused_and_never_applied() {
    let variables = [
        ("POOL_SIZE", "1"),
        ("POOL_WAIT_SECS", "1"),
        ("ANSWER_TIMEOUT_SECS", "121"),
        // With this, the first change keeps the only session while it waits.
        ("LOCK_WAIT_MILLIS", "60000"),
    ];
    let service = TestService::start_with(&variables).await;
    for name in ["self", "transaction-pessimistic-locking"] {
        let user = service.user_with(1_000).await;
        // The test holds the row, so the only connection waits for it.
        let lock = lock_row(&service, user).await;
        let (first, second) = tokio::join!(service.change(name, user, -1), async {
            until("the first change waits for the row", async || {
                waiting_for_locks(&service).await == 1
            })
            .await;
            let second = service.change(name, user, -2).await;
            lock.rollback().await.unwrap();
            second
        });
        assert_eq!(first, (200, balance_body(999)), "{name}");
        assert_eq!(second, (503, error_body("Not applied, try again")), "{name}");
        assert_eq!(service.balance_of(user).await, 999, "{name}");
    }
    service.stop().await;
}

/// Keeps a user's row locked until the transaction ends.
pub(crate) async fn lock_row(
    service: &TestService,
    user: i64,
) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = service.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM users WHERE id = $1 FOR UPDATE")
        .bind(user)
        .execute(&mut *lock)
        .await
        .unwrap();
    lock
}

/// For a service whose wait for a row must be seen: the default is over after 100 ms, which may lie between
/// two looks of a busy machine.
pub(crate) const PATIENT: (&str, &str) = ("LOCK_WAIT_MILLIS", "2000");

/// How many of the service's sessions wait for a lock.
pub(crate) async fn waiting_for_locks(service: &TestService) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'plimsoll' AND wait_event_type = 'Lock'",
    )
    .fetch_one(&service.pool)
    .await
    .unwrap()
}

/// How many changes of one load were accepted, refused, not applied, or have an unknown outcome.
#[derive(Debug, Default)]
struct AnswerCounts {
    accepted: i64,
    refused: i64,
    not_applied: i64,
    unknown: i64,
}

/// Withdraws 1 repeatedly through every approach until `stop`, and counts the answers. A missing
/// answer or one of another status fails the test.
async fn load(service: &TestService, user: i64, stop: &AtomicBool) -> AnswerCounts {
    let names: Vec<_> = registry::names().collect();
    let counts = Mutex::new(AnswerCounts::default());
    let client = async |first: usize| {
        for name in names.iter().cycle().skip(first) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let answer = service.change(name, user, -1).await;
            let mut counts = counts.lock().unwrap();
            match answer.0 {
                200 => counts.accepted += 1,
                400 => counts.refused += 1,
                503 => counts.not_applied += 1,
                504 => counts.unknown += 1,
                _ => panic!("{name}: {answer:?}"),
            }
        }
    };
    futures_util::future::join_all((0..20).map(client)).await;
    counts.into_inner().unwrap()
}

/// Every acknowledged change is stored, and no change that was reported as not applied.
fn assert_nothing_lost(counts: &AnswerCounts, withdrawn: i64) {
    assert!(counts.accepted > 100, "hardly any load: {counts:?}");
    assert_eq!(counts.refused, 0, "contention was reported as lack of funds: {counts:?}");
    let possible = counts.accepted..=counts.accepted + counts.unknown;
    assert!(possible.contains(&withdrawn), "{withdrawn} withdrawn, {counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_backends_lose_nothing_acknowledged_and_are_replaced() {
    let service = TestService::start().await;
    let user = service.user_with(1_000_000).await;
    let stop = AtomicBool::new(false);
    let kill = async {
        for _ in 0..10 {
            let before = service.journal_rows(user).await;
            end_sessions(&service).await;
            let killed = Instant::now();
            until("changes go on", async || service.journal_rows(user).await > before + 20).await;
            assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (counts, ()) = tokio::join!(load(&service, user, &stop), kill);
    assert_nothing_lost(&counts, 1_000_000 - service.balance_of(user).await);
    for name in registry::names() {
        assert_eq!(service.change(name, user, -1).await.0, 200, "{name}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_comes_back_and_nothing_acknowledged_is_lost() {
    let options = cluster::options_in(&cluster::fresh_folder("postmaster"));
    let service = TestService::start_private(options.clone()).await;
    let user = service.user_with(1_000_000).await;
    let mut poor = Vec::new();
    for _ in 0..8 {
        poor.push(service.user_with(0).await);
    }
    let stop = AtomicBool::new(false);
    let kill = async {
        until("there is load", async || service.journal_rows(user).await > 200).await;
        let pid_file = options.data_dir.join("postgres/postmaster.pid");
        let first = std::fs::read_to_string(&pid_file).unwrap();
        let pid = first.lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        // The new postmaster must serve the answers.
        until("a new postmaster serves changes", async || {
            let again = std::fs::read_to_string(&pid_file).unwrap_or_default();
            again.lines().next().is_some_and(|new| new != pid)
                && service.change("self", user, 0).await.0 == 200
        })
        .await;
        // These users cover each lane. A refusal needs no disk, which may stall for over a second.
        let back = Instant::now();
        for poor in &poor {
            until("the lanes are back", async || {
                service.change("batched", *poor, -1).await == insufficient()
            })
            .await;
        }
        assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
        let before = service.journal_rows(user).await;
        until("changes go on", async || service.journal_rows(user).await > before + 20).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (counts, ()) = tokio::join!(load(&service, user, &stop), kill);
    assert_nothing_lost(&counts, 1_000_000 - service.balance_of(user).await);
    service.stop().await;
}
