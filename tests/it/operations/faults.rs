//! Operations beside everything that can go wrong: clients that hang up, sessions that end or stall,
//! rows that others hold.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{capture, entries, funds, parse, post, reserve, total, transfer};
use crate::cluster;
use crate::faults::{end_sessions, lock_row, signal_backends, until};
use crate::service::{Answer, TestService, error_body};
use crate::standby::Standby;

fn not_applied() -> Answer {
    (503, error_body("Not applied, try again"))
}

/// Sends a request on a connection of its own and closes it without reading the answer.
async fn send_and_hang_up(service: &TestService, path: &str, body: &Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_client_hangs_up_happens_in_full_or_not_at_all() {
    let service = TestService::start().await;
    let (user, other) = (service.user_with(10_000).await, service.user_with(0).await);
    let before = total(&service).await;
    let pay = json!({ "from": user, "to": other, "amount": 3 });
    let mut holds = Vec::new();
    for _ in 0..20 {
        holds.push(reserve(&service, user, 5).await);
    }
    for hold in &holds {
        send_and_hang_up(&service, "/transfers", &pay).await;
        send_and_hang_up(&service, &format!("/users/{user}/holds"), &json!({ "amount": 1 })).await;
        let path = format!("/users/{user}/holds/{hold}/capture");
        send_and_hang_up(&service, &path, &json!({ "to": other })).await;
    }
    // All of them are decided, and everything that was acknowledged is still there.
    until("all captures have happened", async || {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM holds WHERE user_id = $1 AND amount = 5 AND state = 'open'",
        )
        .bind(user)
        .fetch_one(&service.pool)
        .await
        .unwrap();
        open == 0 && funds(&service, other).await.0 == 160 && funds(&service, user).await.1 == 20
    })
    .await;
    assert_eq!(total(&service).await, before);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_with_a_key_survive_sessions_that_are_ended_all_the_time() {
    let service = Arc::new(TestService::start().await);
    let mut users = Vec::new();
    for _ in 0..8 {
        users.push(service.user_with(1_000).await);
    }
    let before = total(&service).await;
    let mut clients = JoinSet::new();
    for client in 0..16_usize {
        let (service, users) = (Arc::clone(&service), users.clone());
        clients.spawn(async move {
            let (mut paid, mut unknown) = (0_i64, 0_i64);
            for round in 0..25_usize {
                let (from, to) = (users[client % 8], users[(client + 1 + round % 7) % 8]);
                let body = json!({ "from": from, "to": to, "amount": 1 });
                let key = format!("{client}-{round}");
                // With its key, it can be sent until it is answered.
                loop {
                    let (answer, _) = post(&service, "/transfers", body.clone(), Some(&key)).await;
                    match answer.0 {
                        201 => break paid += 1,
                        503 | 504 => unknown += 1,
                        _ => panic!("{answer:?}"),
                    }
                }
            }
            (paid, unknown)
        });
    }
    let ending = async {
        for _ in 0..15 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            end_sessions(&service).await;
        }
    };
    let (outcomes, ()) = tokio::join!(clients.join_all(), ending);
    let paid: i64 = outcomes.iter().map(|(paid, _)| paid).sum();
    assert_eq!(paid, 400);
    assert_eq!(total(&service).await, before);
    let mut rows = 0;
    for user in users {
        rows += entries(&service, user).await.iter().filter(|e| e.kind == "transfer").count();
    }
    assert_eq!(rows, 800);
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stalls_before_the_commit_has_applied_nothing() {
    let service =
        TestService::start_with(&[("POOL_SIZE", "2"), ("ANSWER_TIMEOUT_SECS", "1")]).await;
    let (user, other) = (service.user_with(100).await, service.user_with(0).await);
    assert_eq!(transfer(&service, user, other, 1).await.0, 201);
    signal_backends(&service, "-STOP").await;
    let answer = timeout(Duration::from_secs(30), transfer(&service, user, other, 1)).await;
    signal_backends(&service, "-CONT").await;
    // The commit was never sent, so this is known. On a new session it may even have succeeded.
    let answer = answer.unwrap();
    let applied = i64::from(answer.0 == 201);
    assert!(applied == 1 || answer == not_applied(), "{answer:?}");
    until("it works again", async || transfer(&service, user, other, 1).await.0 == 201).await;
    assert_eq!(funds(&service, other).await.0, 2 + applied);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_hangs_is_an_unknown_outcome_and_the_key_tells_it() {
    let (service, mut standby) = Standby::start(&[("ANSWER_TIMEOUT_SECS", "1")]).await;
    let (user, other) = (service.user_with(100).await, service.user_with(0).await);
    let hold = reserve(&service, user, 10).await;
    let requests = [
        ("/transfers".to_owned(), json!({ "from": user, "to": other, "amount": 1 }), 201),
        (format!("/users/{user}/holds"), json!({ "amount": 1 }), 201),
        (format!("/users/{user}/holds/{hold}/capture"), json!({ "amount": 4, "to": other }), 200),
    ];
    for (number, (path, body, success)) in requests.into_iter().enumerate() {
        let key = format!("k{number}");
        let before = entries(&service, user).await.len();
        standby.hang(&service).await;
        let (answer, _) = post(&service, &path, body.clone(), Some(&key)).await;
        assert_eq!(answer.0, 504, "{path}: {answer:?}");
        standby.go_on(&service).await;
        until("the key tells", async || {
            post(&service, &path, body.clone(), Some(&key)).await.0.0 == success
        })
        .await;
        assert_eq!(entries(&service, user).await.len(), before + 1, "{path}");
    }
    standby.close().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_a_held_row_waits_apart_and_nobody_else_does() {
    let service = Arc::new(TestService::start().await);
    let held = service.user_with(1_000).await;
    let hold = reserve(&service, held, 100).await;
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(service.user_with(1_000).await);
    }
    let lock = lock_row(&service, held).await;
    let began = Instant::now();
    let mut waiting = JoinSet::new();
    for number in 0..40_usize {
        let (service, other) = (Arc::clone(&service), others[number % 10]);
        waiting.spawn(async move {
            match number % 4 {
                0 => transfer(&service, held, other, 1).await,
                1 => transfer(&service, other, held, 1).await,
                2 => capture(&service, held, hold, json!({})).await,
                _ => {
                    post(&service, &format!("/users/{held}/holds"), json!({ "amount": 1 }), None)
                        .await
                        .0
                }
            }
        });
    }
    let mut served = 0_u32;
    while waiting.len() == 40 && began.elapsed() < Duration::from_secs(3) {
        let pair = [others[served as usize % 10], others[(served as usize + 1) % 10]];
        let paid = timeout(Duration::from_secs(2), transfer(&service, pair[0], pair[1], 1)).await;
        assert_eq!(paid.expect("nobody else waits").0, 201);
        served += 1;
    }
    assert!(served > 20, "{served}");
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap(), not_applied());
    }
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(9), "{waited:?}");
    lock.rollback().await.unwrap();
    assert_eq!(capture(&service, held, hold, json!({})).await.0, 200);
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_held_row_goes_on_as_soon_as_it_is_free() {
    let service = Arc::new(TestService::start().await);
    let (held, other) = (service.user_with(100).await, service.user_with(100).await);
    let lock = lock_row(&service, held).await;
    let waiting = tokio::spawn({
        let service = Arc::clone(&service);
        async move { transfer(&service, other, held, 1).await }
    });
    // Long enough for the first attempt to give up.
    until("others are served", async || {
        transfer(&service, other, 1, 1).await.0 == 201 && !waiting.is_finished()
    })
    .await;
    lock.rollback().await.unwrap();
    let answer = timeout(Duration::from_secs(2), waiting).await.expect("it was woken").unwrap();
    assert_eq!(answer.0, 201);
    Arc::into_inner(service).unwrap().stop().await;
}

/// A key that somebody else keeps uncommitted holds up only the operation that has this key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_use_elsewhere_delays_only_its_own_operation() {
    let service = Arc::new(TestService::start().await);
    let (user, other) = (service.user_with(100).await, service.user_with(100).await);
    let mut elsewhere = service.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) \
         VALUES ($1, 'k', 'release 1', '{1,2}')",
    )
    .bind(user)
    .execute(&mut *elsewhere)
    .await
    .unwrap();
    let body = json!({ "from": user, "to": other, "amount": 1 });
    let waiting = tokio::spawn({
        let service = Arc::clone(&service);
        async move { post(&service, "/transfers", body, Some("k")).await.0 }
    });
    for _ in 0..20 {
        let paid = timeout(Duration::from_secs(2), transfer(&service, other, user, 1)).await;
        assert_eq!(paid.expect("nobody else waits").0, 201);
    }
    assert_eq!(waiting.await.unwrap(), not_applied());
    elsewhere.rollback().await.unwrap();
    service.assert_verified().await;
    Arc::into_inner(service).unwrap().stop().await;
}

/// What a client knows of the money that its payee got.
#[derive(Clone, Copy, Debug, Default)]
struct Paid {
    acknowledged: i64,
    unknown: i64,
}

impl Paid {
    fn count(&mut self, answer: &Answer, amount: i64) {
        match answer.0 {
            200 | 201 => self.acknowledged += amount,
            504 => self.unknown += amount,
            503 => {}
            _ => panic!("{answer:?}"),
        }
    }
}

/// Pays 1, then reserves 2 and captures them to the payee, until `stop`.
async fn pay_until(service: &TestService, payer: i64, payee: i64, stop: &AtomicBool) -> Paid {
    let mut paid = Paid::default();
    while !stop.load(Ordering::Relaxed) {
        paid.count(&transfer(service, payer, payee, 1).await, 1);
        let path = format!("/users/{payer}/holds");
        let (answer, _) = post(service, &path, json!({ "amount": 2 }), None).await;
        if answer.0 == 201 {
            let hold = parse(&answer.1)["hold"].as_i64().unwrap();
            paid.count(&capture(service, payer, hold, json!({ "to": payee })).await, 2);
        }
    }
    paid
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_loses_no_acknowledged_operation_and_halves_none() {
    let options = cluster::options_in(&cluster::fresh_folder("operations"));
    let service = TestService::start_private(options.clone()).await;
    let mut pairs = Vec::new();
    for _ in 0..12 {
        pairs.push((service.user_with(100_000).await, service.user_with(0).await));
    }
    let before = total(&service).await;
    let stop = AtomicBool::new(false);
    let got = async |at_least: i64| {
        until("money moves", async || funds(&service, pairs[0].1).await.0 >= at_least).await;
    };
    let kill = async {
        got(30).await;
        let pid_file = options.data_dir.join("postgres/postmaster.pid");
        let first = std::fs::read_to_string(&pid_file).unwrap();
        let pid = first.lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        until("a new postmaster serves operations", async || {
            let again = std::fs::read_to_string(&pid_file).unwrap_or_default();
            again.lines().next().is_some_and(|new| new != pid)
                && transfer(&service, 1, pairs[0].0, 1).await.0 == 201
        })
        .await;
        let now = funds(&service, pairs[0].1).await.0;
        got(now + 30).await;
        stop.store(true, Ordering::Relaxed);
    };
    let paying = pairs.iter().map(|(payer, payee)| pay_until(&service, *payer, *payee, &stop));
    let (paid, ()) = tokio::join!(futures_util::future::join_all(paying), kill);
    for (paid, (_, payee)) in paid.iter().zip(&pairs) {
        let (balance, _) = funds(&service, *payee).await;
        let possible = paid.acknowledged..=paid.acknowledged + paid.unknown;
        assert!(possible.contains(&balance), "{balance}: {paid:?}");
    }
    assert_eq!(total(&service).await, before);
    service.stop().await;
}
