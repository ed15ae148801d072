//! A user with more new entries than its share of a question.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::Executor;

use super::client::Events;
use super::{history, open};
use crate::metrics::Metrics;
use crate::service::TestService;

/// How many entries the busy user gets at once.
const BACKLOG: i64 = 20_000;

/// Commits so many entries of a user with version 0 at once, as if the reader had fallen behind by them.
async fn plant(service: &TestService, user: i64, count: i64, reference: &str) {
    let sql = format!(
        "WITH moved AS (UPDATE users SET version = {count}, balance = {count}, \
            changed_at = clock_timestamp() WHERE id = {user} RETURNING changed_at) \
        INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, held, \
            created_at, reference) \
        SELECT {user}, n, 'change', 1, 0, n, 0, changed_at, '{reference}' \
        FROM moved, generate_series(1, {count}) AS n"
    );
    service.pool.execute(&*sql).await.unwrap();
}

/// The state that each stream begins with.
async fn states(streams: &mut [Events]) {
    for stream in streams {
        assert_eq!(stream.next().await.unwrap().name, "state");
    }
}

async fn polls(service: &TestService) -> f64 {
    Metrics::scrape(service).await.find("plimsoll_feed_poll_seconds_count").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_user_among_many_is_not_read_in_their_small_shares() {
    let service = TestService::start().await;
    let users = join_all((0..400).map(|_| service.user_with(0))).await;
    let mut quiet = join_all(users[1..].iter().map(|user| open(&service, *user))).await;
    states(&mut quiet).await;
    let mut busy = open(&service, users[0]).await;
    states(std::slice::from_mut(&mut busy)).await;
    let (before, began) = (polls(&service).await, Instant::now());
    plant(&service, users[0], BACKLOG, "r").await;
    assert_eq!(busy.changes_from(1, BACKLOG).await, BACKLOG);
    let asked = polls(&service).await - before;
    // A question for all users every 100 ms at most, and after each one some for the busy user. In the
    // share of one user among 400, which is 40 entries, it would take 500.
    let periods = began.elapsed().div_duration_f64(Duration::from_millis(100));
    assert!(asked < 2.0 * periods + 10.0, "{asked} questions in {periods} periods");
    // The others are not forgotten.
    assert_eq!(service.change("self", users[399], 1).await.0, 200);
    assert_eq!(quiet[398].change().await.id, 1);
    drop((busy, quiet));
    service.stop().await;
}

/// Together they are longer than a ring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_entries_of_one_question_are_there_for_all_watchers() {
    let service = TestService::start().await;
    let user = service.user_with(0).await;
    let mut watchers = join_all((0..5).map(|_| open(&service, user))).await;
    states(&mut watchers).await;
    plant(&service, user, 4_500, &"💶".repeat(255)).await;
    let seen = join_all(watchers.iter_mut().map(|watcher| watcher.changes(1..=4_500))).await;
    let pages = Metrics::scrape(&service).await.find("plimsoll_feed_pages_total").unwrap();
    // Each of them would miss more than a megabyte, which is 30 pages.
    assert!(pages < 75.0, "{pages}");
    let history = history(&service, user).await;
    assert!(history.iter().map(String::len).sum::<usize>() > 5_000_000);
    for seen in seen {
        assert!(seen.iter().map(|event| &event.data).eq(&history));
    }
    drop(watchers);
    service.stop().await;
}
