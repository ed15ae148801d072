//! Streams whose client hangs up, whose service stops, or whose database dies.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;

use super::client::{Results, Sender, StreamClient};
use super::{accepted, failed, keyed, line, open};
use crate::cluster;
use crate::faults::{PATIENT, end_sessions, lock_row, until, waiting_for_locks};
use crate::process::ServiceProcess;
use crate::service::{TestService, balance_body};

/// Sends lines until the connection is gone, or this many are sent.
async fn send_on(mut sender: Sender, user: i64, lines: usize) -> Sender {
    let part = line(user, 1).repeat(100);
    for _ in 0..lines / 100 {
        if !sender.try_send(part.as_bytes()).await {
            break;
        }
    }
    sender
}

/// Reads results, which must have no gap, until there were so many.
async fn read_balances(results: &mut Results, balances: std::ops::Range<i64>) {
    for balance in balances {
        assert_eq!(results.next().await, Some(accepted(balance)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_upload_leaves_exactly_what_was_answered() {
    let service = TestService::start().await;
    let StreamClient { sender, mut results } = open(&service).await;
    let (mut sender, ()) =
        tokio::join!(send_on(sender, 1, 30_000), read_balances(&mut results, 10_001..30_001));
    // The client ends its sending in the middle of the body, and of a line, and still reads.
    sender.send(line(1, 1).trim_end()).await;
    drop(sender);
    // Everything that was sent has arrived, but for the half line.
    let broken = failed(400, "The request body could not be read");
    let expected = (30_001..=40_000).map(accepted).chain([broken]);
    assert!(results.rest().await.into_iter().eq(expected));
    assert_eq!(service.balance_of(1).await, 40_000);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_leaves_whole_changes() {
    let service = TestService::start().await;
    for round in 0..5 {
        let user = service.user_with(0).await;
        let StreamClient { sender, mut results } = open(&service).await;
        let sending = tokio::spawn(send_on(sender, user, 1_000_000));
        read_balances(&mut results, 1..2_000 * round + 1).await;
        // Unread answers make this a reset.
        sending.abort();
        drop((sending.await, results));
        assert!(service.balance_of(user).await >= 2_000 * round);
        // What was in flight may still be on its way; after it, service and database agree.
        until("the stream has ended", async || {
            let stored = service.balance_of(user).await;
            service.change("batched", user, 0).await == (200, balance_body(stored))
        })
        .await;
        service.assert_verified().await;
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stays_in_use_until_its_line_is_answered_even_if_the_client_hangs_up() {
    let service = TestService::start_with(&[("KEY_WAIT_SECS", "1"), PATIENT]).await;
    let user = service.user_with(10).await;
    let lock = lock_row(&service, user).await;
    let StreamClient { mut sender, results } = open(&service).await;
    sender.send(&keyed(user, -1, "k")).await;
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    drop((sender, results));
    for _ in 0..2 {
        assert_eq!(service.keyed("self", user, -1, "k").await.0.0, 409);
    }
    lock.rollback().await.unwrap();
    until("the key is free", async || {
        service.keyed("self", user, -1, "k").await == ((200, balance_body(9)), true)
    })
    .await;
    assert_eq!(service.journal_rows(user).await, 2);
    service.stop().await;
}

async fn connect(service: &ServiceProcess) -> PgPool {
    PgPoolOptions::new().max_connections(1).connect_with(service.database.clone()).await.unwrap()
}

async fn balance_in(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT balance FROM users WHERE id = 1").fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sigterm_what_was_read_is_answered_and_a_last_line_says_503() {
    let mut service = ServiceProcess::start("true").await;
    let pool = connect(&service).await;
    let StreamClient { sender, mut results } = StreamClient::open(service.address).await;
    // The client never ends its body, and goes on sending after the last answer.
    let sending = tokio::spawn(send_on(sender, 1, 1_000_000));
    read_balances(&mut results, 10_001..20_001).await;
    service.terminate();
    let mut rest = timeout(Duration::from_secs(20), results.rest()).await.expect("it ends");
    let stopping = failed(503, "The service is stopping: what follows was not applied");
    assert_eq!(rest.pop(), Some(stopping));
    let answered = i64::try_from(rest.len()).unwrap();
    assert!(rest.into_iter().zip(20_001..).all(|(result, balance)| result == accepted(balance)));
    timeout(Duration::from_secs(20), service.ended()).await.expect("within the drain time");
    assert_eq!(balance_in(&pool).await, 20_000 + answered);
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sigterm_an_idle_stream_ends_at_once() {
    let mut service = ServiceProcess::start("true").await;
    let StreamClient { mut sender, mut results } = StreamClient::open(service.address).await;
    sender.send(&line(1, -1)).await;
    assert_eq!(results.next().await, Some(accepted(9_999)));
    service.terminate();
    let stopping = "The service is stopping: what follows was not applied";
    assert_eq!(results.next().await, Some(failed(503, stopping)));
    assert_eq!(results.next().await, None);
    drop((sender, results));
    timeout(Duration::from_secs(5), service.ended()).await.expect("at once");
}

/// Sends keyed lines again until all are accepted. Returns the balances by key.
async fn send_until_through(service: &TestService, keys: usize) -> HashMap<usize, i64> {
    let mut balances = HashMap::new();
    while balances.len() < keys {
        let left: Vec<usize> = (0..keys).filter(|key| !balances.contains_key(key)).collect();
        let lines: String = left.iter().map(|key| keyed(1, 1, &format!("k{key}"))).collect();
        let results = open(service).await.exchange(lines).await;
        assert_eq!(results.len(), left.len());
        for (key, result) in left.into_iter().zip(results) {
            match result["status"].as_i64() {
                None => drop(balances.insert(key, result["balance"].as_i64().unwrap())),
                Some(503 | 504) => {}
                Some(_) => panic!("{result}"),
            }
        }
    }
    balances
}

/// Each key has moved the balance once.
async fn assert_each_once(service: &TestService, balances: HashMap<usize, i64>) {
    let count = i64::try_from(balances.len()).unwrap();
    let mut all: Vec<i64> = balances.into_values().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(10_001..=10_000 + count));
    assert_eq!(service.balance_of(1).await, 10_000 + count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_a_stream_survives_the_loss_of_its_sessions() {
    let service = TestService::start().await;
    let killing = async {
        for at in [500, 2_000, 4_000] {
            until("it moves", async || service.journal_rows(1).await > at).await;
            end_sessions(&service).await;
        }
    };
    let (balances, ()) = tokio::join!(send_until_through(&service, 10_000), killing);
    assert_each_once(&service, balances).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_loses_nothing_that_a_stream_was_told() {
    let options = cluster::options_in(&cluster::fresh_folder("streaming"));
    let service = TestService::start_private(options.clone()).await;
    let StreamClient { sender, mut results } = open(&service).await;
    let is_back = AtomicBool::new(false);
    let sending = async {
        let (mut sender, mut sent) = (sender, 0);
        while !is_back.load(Ordering::Relaxed) {
            sender.send(&line(1, 1).repeat(100)).await;
            sent += 100;
            // Slower than the service, so that the journal stays short.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sender.finish().await;
        sent
    };
    let killing = async {
        until("there is load", async || service.journal_rows(1).await > 2_000).await;
        let pid_file = options.data_dir.join("postgres/postmaster.pid");
        let pid = std::fs::read_to_string(pid_file).unwrap().lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        let killed = Instant::now();
        while killed.elapsed() < Duration::from_secs(1)
            || service.change("batched", 1, 0).await.0 != 200
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        is_back.store(true, Ordering::Relaxed);
    };
    let (results, sent, ()) = tokio::join!(results.rest(), sending, killing);
    assert_eq!(results.len(), sent);
    let count = |of: fn(&Value) -> bool| i64::try_from(results.iter().filter(|r| of(r)).count());
    let applied = count(|result| result.get("balance").is_some()).unwrap();
    let unknown = count(|result| result["status"] == 504).unwrap();
    let refused = count(|result| result["status"] == 503).unwrap();
    assert_eq!(applied + unknown + refused, i64::try_from(sent).unwrap());
    assert!(applied > 1_000 && unknown + refused > 0, "{applied}, {unknown}, {refused}");
    until("the database is back", async || service.change("self", 1, 0).await.0 == 200).await;
    let moved = service.balance_of(1).await - 10_000;
    assert!((applied..=applied + unknown).contains(&moved), "{moved}: {applied}, {unknown}");
    // With keys, it can be repeated until it went through.
    let before = service.balance_of(1).await;
    let balances = send_until_through(&service, 1_000).await;
    assert_eq!(balances.len(), 1_000);
    assert_eq!(service.balance_of(1).await, before + 1_000);
    service.stop().await;
}

/// Clients that do not read, or read slowly, and lines as long as they may be.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_a_stream_is_bounded() {
    let service = ServiceProcess::start("true").await;
    let reference = "\\u00e9".repeat(255);
    let long = format!("{{\"userId\":1,\"amount\":1,\"reference\":\"{reference}\"}}");
    let long = format!("{long}{}\n", " ".repeat(4_096 - long.len()));
    let malformed = format!("{{\"{}\":1}}\n", "\\u0001".repeat(600));
    for part in
        [line(1, 1).repeat(1_000), long.repeat(10), malformed.repeat(20), "\n".repeat(9_000)]
    {
        let StreamClient { mut sender, mut results } = StreamClient::open(service.address).await;
        let sending = async {
            for _ in 0..3_000 {
                if !sender.try_send(part.as_bytes()).await {
                    return;
                }
            }
        };
        let reading = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for _ in 0..20 {
                results.receive().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let begin = service.memory_kb_max();
        tokio::select! {
            () = sending => {}
            () = reading => {}
        }
        // The kernel's figures are approximate.
        let grown = service.memory_kb_max().saturating_sub(begin);
        assert!(grown < 24_000, "{grown} kB for {:?}", &part[..part.len().min(60)]);
    }
    drop(service);
}
