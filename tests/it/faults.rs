//! Bad moments: clients that hang up, a database that stalls, a stop under load.

use std::process::Command;
use std::time::Duration;

use plimsoll::approach;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::service::{TestService, balance_body, error_body};

/// Waits until `check` holds; fails loudly when it never does.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Sends one change on a connection of its own and closes it without reading the answer.
async fn send_and_hang_up(service: &TestService, name: &str, user: i64, amount: i64) {
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
    for name in approach::names() {
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
        // Those of the clients that hung up may still be on their way.
        until("all 220 changes are there", async || service.journal_rows(user).await == 221).await;
        assert_eq!(service.balance_of(user).await, 1_000_000 - 20 * 1_000 - 200, "{name}");
    }
    service.stop().await;
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
        assert!(status.success(), "kill {signal} {pid}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stalls_is_an_unknown_outcome_and_loses_nothing_acknowledged() {
    let service =
        TestService::start_with(&[("POOL_SIZE", "2"), ("ANSWER_TIMEOUT_SECS", "1")]).await;
    for name in approach::names() {
        let user = service.user_with(1_000).await;
        signal_backends(&service, "-STOP").await;
        let answer = service.change(name, user, -1).await;
        signal_backends(&service, "-CONT").await;
        assert_eq!(answer.0, 504, "{name}: {answer:?}");
        // Once the sessions are at rest again, what is acknowledged is there.
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
async fn without_a_free_connection_a_change_is_refused_and_never_applied() {
    let variables = [("POOL_SIZE", "1"), ("POOL_WAIT_SECS", "1"), ("ANSWER_TIMEOUT_SECS", "20")];
    let service = TestService::start_with(&variables).await;
    for name in ["self", "transaction-pessimistic-locking"] {
        let user = service.user_with(1_000).await;
        // Somebody else holds the row, so the only connection waits for it.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_the_requests_in_flight() {
    let service = TestService::start().await;
    let user = service.user_with(1_000).await;
    let lock = lock_row(&service, user).await;
    let (client, url) = (service.client.clone(), service.url.clone());
    let in_flight = tokio::spawn(async move {
        let request = client
            .patch(format!("{url}/approach/self/balance"))
            .header("content-type", "application/json")
            .body(format!("{{\"userId\":{user},\"amount\":-1}}"));
        crate::service::read(request.send().await.unwrap()).await
    });
    until("the change waits for the row", async || waiting_for_locks(&service).await == 1).await;
    let address = service.service.address();
    let stopping = tokio::spawn(service.service.stop());
    until("new connections are refused", async || TcpStream::connect(address).await.is_err()).await;
    assert!(!stopping.is_finished(), "it waits for the request in flight");
    lock.rollback().await.unwrap();
    assert_eq!(in_flight.await.unwrap(), (200, balance_body(999)));
    timeout(Duration::from_secs(10), stopping).await.expect("it stops").unwrap();
}
