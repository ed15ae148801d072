//! Sessions that go silent, become read-only or connect slowly, and the number of sessions.

use std::sync::Arc;
use std::time::Duration;

use plimsoll::approach::registry;
use reqwest::Method;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::{Instant, timeout};

use crate::cluster;
use crate::faults::{end_sessions, lock_row, signal_backends, until, waiting_for_locks};
use crate::proxy::Proxy;
use crate::service::{TestService, balance_body, error_body, insufficient, read};

async fn status(service: &TestService, path: &str) -> u16 {
    read(service.send(Method::GET, path, None).await).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_silent_for_good_are_replaced_and_do_not_hold_up_the_end() {
    let variables = [("ANSWER_TIMEOUT_SECS", "2"), ("DRAIN_TIMEOUT_SECS", "2")];
    let service = TestService::start_with(&variables).await;
    let user = service.user_with(1_000).await;
    let database = service.database.clone();
    for name in registry::names() {
        assert_eq!(service.change(name, user, -1).await.0, 200, "{name}");
    }
    signal_backends(&service, "-STOP").await;
    let stopped = stopped_backends(&service).await;
    let silent = Instant::now();
    for name in registry::names() {
        until("new sessions serve", async || service.change(name, user, -1).await.0 == 200).await;
    }
    assert!(silent.elapsed() < Duration::from_secs(15), "{:?}", silent.elapsed());
    // The new sessions go silent as well. Then the service is stopped, with a request in flight.
    signal_backends(&service, "-STOP").await;
    let all = stopped_backends(&service).await;
    assert!(all.len() > stopped.len());
    let began = Instant::now();
    let TestService { service, pool, .. } = service;
    timeout(Duration::from_secs(2 + 5), service.stop()).await.expect("it ends in time");
    assert!(began.elapsed() < Duration::from_secs(7));
    for pid in all {
        let _ = std::process::Command::new("kill").args(["-CONT", &pid.to_string()]).status();
    }
    pool.close().await;
    // No change is lost or half applied: `stop` verifies the database.
    TestService::start_on(database, &[]).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_cluster_with_stopped_backends_ends_in_time_and_has_lost_nothing() {
    let options = cluster::options_in(&cluster::fresh_folder("stopped"));
    let service = TestService::start_private(options.clone()).await;
    let user = service.user_with(1_000).await;
    assert_eq!(service.change("self", user, -1).await.0, 200);
    signal_backends(&service, "-STOP").await;
    let TestService { service, pool, .. } = service;
    pool.close().await;
    timeout(Duration::from_secs(10 + 5), service.stop()).await.expect("it ends in time");
    let again = TestService::start_private(options).await;
    assert_eq!(again.balance_of(user).await, 999);
    again.stop().await;
}

async fn stopped_backends(service: &TestService) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'plimsoll'",
    )
    .fetch_all(&service.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_read_only_takes_changes_again_without_a_restart() {
    let service = TestService::start().await;
    let user = service.user_with(1_000).await;
    let set = async |to: &str| {
        let name: String =
            sqlx::query_scalar("SELECT current_database()").fetch_one(&service.pool).await.unwrap();
        // Applies to new sessions only, as if a primary had become a standby.
        let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = {to}");
        let mut admin = service
            .database
            .clone()
            .options([("default_transaction_read_only", "off")])
            .connect()
            .await
            .unwrap();
        admin.execute(sql.as_str()).await.unwrap();
        admin.close().await.unwrap();
    };
    set("on").await;
    end_sessions(&service).await;
    for name in registry::names() {
        // A change sent on a session that was just ended has an unknown outcome. Later ones do not.
        until("the new sessions are read-only", async || {
            service.change(name, user, -1).await.0 == 503
        })
        .await;
        assert_eq!(service.change(name, user, -1).await.0, 503, "{name}");
    }
    until("it is not ready", async || status(&service, "/readyz").await == 503).await;
    let path = format!("/users/{user}");
    until("reads go on", async || status(&service, &path).await == 200).await;
    set("off").await;
    for name in registry::names() {
        until("changes go on", async || service.change(name, user, -1).await.0 == 200).await;
    }
    until("it is ready", async || status(&service, "/readyz").await == 200).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_left_changes_are_not_applied_and_go_on_when_there_is_one() {
    let service = TestService::start().await;
    let user = service.user_with(1_000).await;
    let mut admin = service.pool.acquire().await.unwrap();
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut *admin).await.unwrap();
    let mut limit = async |to: i32| {
        let sql = format!("ALTER DATABASE {name} CONNECTION LIMIT {to}");
        admin.execute(sql.as_str()).await.unwrap();
        admin
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'plimsoll'",
            )
            .await
            .unwrap();
    };
    limit(0).await;
    for approach in registry::names() {
        // A change sent on a session that was just ended has an unknown outcome. Later ones do not.
        until("no session is left", async || service.change(approach, user, -1).await.0 == 503)
            .await;
        let answer = service.change(approach, user, -1_000_000).await;
        assert_eq!(answer, (503, error_body("Not applied, try again")), "{approach}");
    }
    assert_eq!(status(&service, "/readyz").await, 503);
    assert_eq!(status(&service, &format!("/users/{user}")).await, 503);
    assert_eq!(status(&service, "/healthz").await, 200);
    limit(-1).await;
    for approach in registry::names() {
        until("changes go on", async || service.change(approach, user, -1).await.0 == 200).await;
    }
    until("it is ready", async || status(&service, "/readyz").await == 200).await;
    drop(admin);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distant_database_is_slow_to_connect_to_and_serves_all_the_same() {
    let database = cluster::shared().await.fresh_database().await;
    let proxy = Proxy::in_front_of(&database).await;
    let service = TestService::start_through(proxy.database.clone(), database, &[]).await;
    let user = service.user_with(1_000).await;
    // Longer than the former limit of one second.
    proxy.delay_connections(Duration::from_millis(1_500));
    end_sessions(&service).await;
    for name in registry::names() {
        until("it serves", async || service.change(name, user, -1).await.0 == 200).await;
    }
    drop(proxy);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_through_self_is_one_round_trip() {
    let database = cluster::shared().await.fresh_database().await;
    let proxy = Proxy::in_front_of(&database).await;
    let variables = [("POOL_SIZE", "1"), ("WORKERS", "1")];
    let service = TestService::start_through(proxy.database.clone(), database, &variables).await;
    let user = service.user_with(0).await;
    // Prepares the statement.
    assert_eq!(service.change("self", user, -1).await, insufficient());
    // Not in each run: a session that was idle for a second is checked first, and now and then the service
    // asks for its metrics.
    until("twenty refusals are twenty round trips", async || {
        let before = proxy.round_trips();
        for _ in 0..20 {
            assert_eq!(service.change("self", user, -1).await, insufficient());
        }
        proxy.round_trips() - before == 20
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_busy_is_ready() {
    let variables =
        [("POOL_SIZE", "1"), ("LOCK_WAIT_MILLIS", "60000"), ("ANSWER_TIMEOUT_SECS", "121")];
    let service = Arc::new(TestService::start_with(&variables).await);
    let lock = lock_row(&service, 1).await;
    let waiting = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.change("self", 1, -1).await }
    });
    until("the only session waits", async || waiting_for_locks(&service).await == 1).await;
    assert_eq!(status(&service, "/readyz").await, 200);
    lock.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap(), (200, balance_body(9_999)));
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_as_many_threads_as_asked_for_however_few_sessions() {
    let variables = [("WORKERS", "9"), ("POOL_SIZE", "2"), ("READ_POOL_SIZE", "1")];
    let service = TestService::start_with(&variables).await;
    let names = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    // No other test has so many threads.
    assert!(names.into_iter().any(|name| name.trim() == "http-8"));
    // Connections are assigned round-robin, so each thread gets two.
    for round in 1..=18 {
        let client = reqwest::Client::new();
        let url = format!("{}/approach/self/balance", service.url);
        let request = client.patch(url).header("content-type", "application/json");
        let answer = request.body(r#"{"userId":1,"amount":-1}"#).send().await.unwrap();
        assert_eq!(read(answer).await, (200, balance_body(10_000 - round)));
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_waits_for_another_ones_migration_however_long_it_takes() {
    let service = TestService::start().await;
    let mut migrating = service.pool.begin().await.unwrap();
    migrating.execute("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // With this, a statement of a request may take half a second.
    let variables = [("ANSWER_TIMEOUT_SECS", "1")];
    let database = service.database.clone();
    let (other, ()) = tokio::join!(TestService::start_on(database, &variables), async {
        until("it waits for the migration", async || waiting_for_locks(&service).await > 0).await;
        let since = Instant::now();
        until("for longer than a request may", async || {
            since.elapsed() > Duration::from_millis(1_500)
        })
        .await;
        assert_eq!(waiting_for_locks(&service).await, 1, "it still waits");
        migrating.rollback().await.unwrap();
    });
    other.stop().await;
    service.stop().await;
}
