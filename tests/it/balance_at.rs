//! Balances at a moment and after an entry: they are what the journal says, whatever runs concurrently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use plimsoll::approach::registry;
use plimsoll::ledger::Timestamp;
use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::faults::{lock_row, until, waiting_for_locks};
use crate::planted::plant;
use crate::service::{Answer, TestService, error_body, read, stop_both, two_instances};

/// By the clock of this machine, which is also the database's.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(since.as_micros().try_into().unwrap())
}

fn earlier(moment: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(moment.micros() - micros)
}

async fn get(service: &TestService, user: i64, query: &str) -> Answer {
    let path = format!("/users/{user}/balance?{query}");
    read(service.send(Method::GET, &path, None).await).await
}

fn shown(balance: i64, held: i64, version: i64, at: &str) -> Answer {
    let body = format!(r#"{{"balance":{balance},"held":{held},"version":{version},"at":"{at}"}}"#);
    (200, body)
}

/// What the journal says now about that moment.
async fn journaled(service: &TestService, user: i64, at: &str) -> Answer {
    let row: Option<(i64, i64, i64)> = sqlx::query_as(
        "SELECT balance, held, version FROM balance_changes \
         WHERE user_id = $1 AND created_at <= $2::timestamptz ORDER BY version DESC LIMIT 1",
    )
    .bind(user)
    .bind(at)
    .fetch_optional(&service.pool)
    .await
    .unwrap();
    let (balance, held, version) = row.unwrap_or_default();
    shown(balance, held, version, at)
}

/// The user's row with the transaction that wrote it.
async fn row_of(service: &TestService, user: i64) -> String {
    sqlx::query_scalar("SELECT u.*::text || xmin || ctid FROM users u WHERE id = $1")
        .bind(user)
        .fetch_one(&service.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn each_entry_and_each_moment_has_its_balance() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let time = |second: i64| format!("2025-01-31T12:00:{second:02}.000001Z");
    let after = [
        (10_000, 0),
        (9_500, 0),
        (9_100, 400),
        (8_800, 700),
        (8_600, 900),
        (8_500, 1_000),
        (8_650, 600),
        (8_950, 300),
        (9_150, 100),
        (9_100, 150),
        (9_100, 100),
        (9_080, 100),
    ];
    for (number, (balance, held)) in (1..).zip(after) {
        let expected = shown(balance, held, number, &time(number));
        for query in [format!("version={number}"), format!("at={}", time(number))] {
            assert_eq!(get(&service, 101, &query).await, expected, "{query}");
        }
        // One microsecond before the next one.
        let last = format!("2025-01-31T12:00:{:02}.000000Z", number + 1);
        let expected = shown(balance, held, number, &last);
        assert_eq!(get(&service, 101, &format!("at={last}")).await, expected, "{last}");
    }
    // Two entries of one moment.
    let expected = shown(10_745, 0, 5, &time(12));
    assert_eq!(get(&service, 102, &format!("at={}", time(12))).await, expected);
    // Before the first entry.
    for at in ["2025-01-31T12:00:01.000000Z", "1970-01-01T00:00:00.000000Z"] {
        assert_eq!(get(&service, 101, &format!("at={at}")).await, shown(0, 0, 0, at));
    }
    let created = shown(0, 0, 0, "2025-01-31T12:00:01.000000Z");
    assert_eq!(get(&service, 101, "version=0").await, created);
    let empty = service.user_with(0).await;
    let (status, text) = get(&service, empty, "version=0").await;
    assert!(status == 200 && text.starts_with(r#"{"balance":0,"held":0,"version":0,"#), "{text}");
    service.stop().await;
}

#[tokio::test]
async fn a_moment_may_be_written_in_any_way_of_rfc_3339() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let expected = shown(8_500, 1_000, 6, "2025-01-31T12:00:06.500000Z");
    for at in [
        "2025-01-31T12:00:06.5Z",
        "2025-01-31T12%3A00%3A06.5Z",
        "2025-01-31T13:00:06.5+01:00",
        "2025-01-31T13:00:06.5%2B01:00",
        "2025-01-31t07:30:06.500000999-04:30",
    ] {
        assert_eq!(get(&service, 101, &format!("at={at}")).await, expected, "{at}");
    }
    service.stop().await;
}

#[tokio::test]
async fn requests_for_what_is_not_there_are_told_so() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let either = "Either at or version is required, and not both";
    let rule = "at must be a time as in RFC 3339, such as 2026-01-31T12:00:00.123456Z";
    let number = "version must be a whole number from 0 to 9223372036854775807";
    for (query, sentence) in [
        ("", either),
        ("at=2025-01-31T12:00:00Z&version=1", either),
        ("at=", rule),
        ("at=now", rule),
        ("at=2025-01-31", rule),
        ("at=2025-01-31T12:00:00", rule),
        ("at=2025-01-31%2012:00:00Z", rule),
        ("at=2025-01-31T12:00:00%ff", rule),
        ("version=-1", number),
        ("version=%2B1", number),
        ("version=9223372036854775808", number),
        ("version=13", "version must not be more than the user's, which is 12"),
        ("version=1&version=1", "version must not be given twice"),
        ("on=2025-01-31", "Unknown parameter \"on\"; there are at and version"),
    ] {
        assert_eq!(get(&service, 101, query).await, (400, error_body(sentence)), "{query}");
    }
    for at in [earlier(now(), -60_000_000).to_string(), "9999-12-31T23:59:59Z".to_owned()] {
        let (status, text) = get(&service, 101, &format!("at={at}")).await;
        let sentence = r#"{"error":"at must not be later than now, which is 2"#;
        assert!(status == 400 && text.starts_with(sentence), "{at}: {text}");
    }
    for query in ["version=0", "version=1", "at=2025-01-31T12:00:00Z", "at=9999-01-01T00:00:00Z"] {
        let missing = (404, error_body("User not found"));
        assert_eq!(get(&service, 77, query).await, missing, "{query}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_moment_after_the_last_change_is_closed_once_and_is_no_entry() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let before = row_of(&service, 101).await;
    get(&service, 101, "at=2025-01-31T12:00:12.000000Z").await;
    assert_eq!(row_of(&service, 101).await, before, "the moment is before the last change");

    let expected = shown(9_080, 100, 12, "2025-06-01T00:00:00.000000Z");
    assert_eq!(get(&service, 101, "at=2025-06-01T00:00:00Z").await, expected);
    let closed = row_of(&service, 101).await;
    assert_ne!(closed, before);
    assert!(closed.contains("2025-06-01 00:00:00.000001"), "{closed}");
    assert_eq!(get(&service, 101, "at=2025-06-01T00:00:00Z").await, expected);
    let sooner = shown(9_080, 100, 12, "2025-05-01T00:00:00.000000Z");
    assert_eq!(get(&service, 101, "at=2025-05-01T00:00:00Z").await, sooner);
    assert_eq!(row_of(&service, 101).await, closed, "a closed moment is only read");
    assert_eq!(service.journal_rows(101).await, 12);
    service.stop().await;
}

/// A clock that was set back by an hour: the user's last change is stamped by the clock of before.
#[tokio::test]
async fn moments_ahead_of_the_clock_are_final_too() {
    let service = TestService::start().await;
    let user = service.user_with(100).await;
    let ahead = earlier(now(), -3_600_000_000);
    sqlx::query("UPDATE users SET changed_at = $2::text::timestamptz WHERE id = $1")
        .bind(user)
        .bind(ahead.to_string())
        .execute(&service.pool)
        .await
        .unwrap();
    let mut answers = Vec::new();
    for moment in [now(), earlier(ahead, 60_000_000), earlier(ahead, 1), ahead, now()] {
        let at = moment.to_string();
        let answer = get(&service, user, &format!("at={at}")).await;
        assert_eq!(answer, journaled(&service, user, &at).await, "{at}");
        assert_eq!(service.change("self", user, -1).await.0, 200);
        answers.push((at, answer));
    }
    // Three changes were stamped at that very time, and none since it was asked for.
    assert_eq!(answers[3].1, shown(97, 0, 4, &ahead.to_string()));
    for (at, answer) in answers {
        assert_eq!(answer, journaled(&service, user, &at).await, "{at}");
        assert_eq!(answer, get(&service, user, &format!("at={at}")).await, "{at}");
    }
    let beyond = earlier(ahead, -1_000_000).to_string();
    assert_eq!(get(&service, user, &format!("at={beyond}")).await.0, 400);
    service.stop().await;
}

/// As if its commit waited for the disk, or for a standby, since long ago.
#[tokio::test]
async fn there_is_no_answer_while_an_entry_of_that_time_is_not_committed() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let mut slow = service.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "UPDATE users SET balance = balance - 1, version = 13, changed_at = '2025-03-01Z' \
             WHERE id = 101; \
         INSERT INTO balance_changes \
             (user_id, version, kind, amount, held_amount, balance, held, created_at) \
         VALUES (101, 13, 'change', -1, 0, 9079, 100, '2025-03-01Z')",
    )
    .execute(&mut *slow)
    .await
    .unwrap();
    let at = "2025-06-01T00:00:00.000000Z";
    let not_yet = (503, error_body("Not applied, try again"));
    assert_eq!(get(&service, 101, &format!("at={at}")).await, not_yet);
    // What is before the last change that was committed is final already.
    let known = "2025-01-31T12:00:11.500000Z";
    assert_eq!(get(&service, 101, &format!("at={known}")).await, shown(9_100, 100, 11, known));
    slow.commit().await.unwrap();
    assert_eq!(get(&service, 101, &format!("at={at}")).await, shown(9_079, 100, 13, at));
    service.stop().await;
}

/// A change takes its time before it waits for the row. Whether it comes before or after the read that
/// waits as well, answer and journal agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_waits_is_stamped_before_the_moment_and_counted_or_after_it() {
    let service = TestService::start_with(&[("LOCK_WAIT_MILLIS", "4000")]).await;
    for name in registry::names() {
        let user = service.user_with(100).await;
        let lock = lock_row(&service, user).await;
        let at = async {
            until("the change waits", async || waiting_for_locks(&service).await == 1).await;
            let at = now().to_string();
            let query = format!("at={at}");
            let (answer, ()) = tokio::join!(get(&service, user, &query), async {
                until("both wait", async || waiting_for_locks(&service).await == 2).await;
                lock.rollback().await.unwrap();
            });
            (at, answer)
        };
        let (changed, (at, answer)) = tokio::join!(service.change(name, user, -1), at);
        assert_eq!(changed.0, 200, "{name}");
        assert_eq!(answer, journaled(&service, user, &at).await, "{name}");
    }
    service.stop().await;
}

/// Changes through every approach and two instances, and reads of moments within the last second, half
/// of them right now. Afterwards each answer is compared with the journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_exact_while_changes_run() {
    let instances = two_instances(None).await;
    let users = [instances[0].user_with(1_000_000).await, instances[0].user_with(1_000_000).await];
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for (number, name) in registry::names().chain(registry::names()).enumerate() {
        let (service, stop) = (Arc::clone(&instances[number % 2]), Arc::clone(&stop));
        writers.spawn(async move {
            for i in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (status, text) = service.change(name, users[i % 2], -1).await;
                assert_eq!(status, 200, "{name}: {text}");
            }
        });
    }
    let mut readers = JoinSet::new();
    for number in 0..4 {
        let service = Arc::clone(&instances[number % 2]);
        readers.spawn(async move {
            let (mut answers, mut refused) = (Vec::new(), 0);
            // Every moment of the last second is one of the load.
            sleep(Duration::from_secs(1)).await;
            let began = Instant::now();
            for i in 0.. {
                if began.elapsed() > Duration::from_secs(3) && answers.len() >= 100 {
                    break;
                }
                let age = if i % 2 == 0 { 0 } else { fastrand::i64(0..1_000_000) };
                let (user, at) = (users[i / 2 % 2], earlier(now(), age).to_string());
                let answer = get(&service, user, &format!("at={at}")).await;
                match answer.0 {
                    // The row was busy for longer than a statement waits for it.
                    503 => refused += 1,
                    _ => answers.push((user, at, answer)),
                }
                assert!(refused <= 200, "hardly any moment has an answer");
            }
            answers
        });
    }
    let answers: Vec<_> = readers.join_all().await.concat();
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    let mut versions = Vec::new();
    for (user, at, answer) in &answers {
        assert_eq!(*answer, journaled(&instances[0], *user, at).await, "user {user} at {at}");
        let body: Value = serde_json::from_str(&answer.1).unwrap();
        versions.push((user, body["version"].as_i64().unwrap()));
    }
    versions.sort_unstable();
    versions.dedup();
    assert!(versions.len() > 50, "{} answers, all of few moments", answers.len());
    stop_both(instances).await;
}

#[tokio::test]
async fn any_moment_of_a_million_entries_is_found_at_once() {
    let service = TestService::start().await;
    sqlx::raw_sql(
        "INSERT INTO balance_changes \
             (user_id, version, kind, amount, held_amount, balance, held, created_at) \
         SELECT 7, n, 'change', 1, 0, n, 0, '2025-01-01Z'::timestamptz + n * interval '1 second' \
         FROM generate_series(1, 1000000) n; \
         INSERT INTO users (id, balance, held, version, changed_at) \
         SELECT 7, 1000000, 0, 1000000, max(created_at) FROM balance_changes WHERE user_id = 7",
    )
    .execute(&service.pool)
    .await
    .unwrap();
    let mut took = Vec::new();
    for _ in 0..50 {
        let second = fastrand::i64(0..1_000_000);
        // 2025-01-01 in seconds since 1970.
        let at = Timestamp::from_micros((1_735_689_600 + second) * 1_000_000).to_string();
        let began = Instant::now();
        let answer = get(&service, 7, &format!("at={at}")).await;
        took.push(began.elapsed());
        assert_eq!(answer, shown(second, 0, second, &at));
    }
    // The fastest one: a busy machine delays any of them. A walk over the entries would take at least
    // ten times as long.
    let fastest = took.iter().min().unwrap();
    assert!(*fastest < Duration::from_millis(5), "{took:?}");
    service.stop().await;
}
