//! The witness must be able to fail: a small balance service on a real PostgreSQL, which is either correct
//! or has one mistake that real ledgers have made, and the real `concurrency-tester witness`, which must
//! pass the one and catch each of the others.
//!
//! In reading order: [`service`] takes requests, [`request`] reads them, [`ledger`] makes a transaction of
//! them, [`decide`] decides on [`books`], [`rows`] has the statements. [`bug`] lists the mistakes; a search
//! for one of them finds the place where it strikes, and [`mistakes`] has the longer ones.

mod answer;
mod books;
mod bug;
mod crash;
mod decide;
mod ledger;
mod mistakes;
mod moments;
mod operation;
mod query;
mod reads;
mod refused;
mod request;
mod rows;
mod service;
mod store;
mod stream;
mod time;
mod witness;

use std::time::Duration;

use plimsoll::cluster::SERVICE_DATABASE;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, PgPool};

use crate::cluster;
use bug::{Bug, Planted};
use service::Service;

/// More than the clients of the witness: some mistakes take two connections for a request.
const CONNECTIONS_MAX: u32 = 80;

/// The requests of the first run. Each further one has twice as many, up to so many.
const REQUESTS: usize = 600;
const REQUESTS_MAX: usize = 64 * REQUESTS;

/// A service on a new database.
async fn start(bug: Option<Bug>, seed: u64) -> Service {
    let database = cluster::shared().await.fresh_database().await;
    Service::start(prepared(database, bug).await, Planted::new(bug, seed)).await
}

/// A database with the schema of Plimsoll.
async fn prepared(database: PgConnectOptions, bug: Option<Bug>) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).test_before_acquire(false);
    let pool = pool.connect_with(database).await.unwrap();
    sqlx::migrate!("./migrations").run(&pool).await.unwrap();
    pool.execute(rows::COLUMNS).await.unwrap();
    // Else the database would stop what these lead to, and nothing could be done with the user any more.
    if let Some(Bug::MissingGuard | Bug::HoldCapturedTwice) = bug {
        let sql = "ALTER TABLE users DROP CONSTRAINT users_balance_check; \
                   ALTER TABLE users DROP CONSTRAINT users_held_check; \
                   ALTER TABLE balance_changes DROP CONSTRAINT balance_changes_balance_check";
        pool.execute(sql).await.unwrap();
    }
    pool
}

/// The seeds of a test: one, which differs from bug to bug, or as many as `PLANTED_SEEDS` says.
#[expect(clippy::disallowed_methods, reason = "`make planted` configures the tests this way")]
fn seeds(bug: Bug) -> std::ops::Range<u64> {
    let count = std::env::var("PLANTED_SEEDS").ok().filter(|text| !text.is_empty());
    let count = count.map_or(1, |text| text.parse().expect("PLANTED_SEEDS is a whole number"));
    let first = 1 + 100 * bug as u64;
    first..first + count
}

/// The witness catches the bug with each seed, by one of these kinds of violations. The first run is short.
/// What a short one misses must be found by a longer one. `make planted` shows how long it takes.
async fn is_caught(bug: Bug, expected: &[&str]) {
    for seed in seeds(bug) {
        let service = start(Some(bug), seed).await;
        let mut took = Duration::ZERO;
        let mut requests = REQUESTS;
        loop {
            let report = witness::run(&service.url, seed, requests).await;
            took += report.took;
            if report.code != Some(0) {
                report.print(bug, seed, took);
                report.assert_caught(expected);
                break;
            }
            assert!(requests < REQUESTS_MAX, "{bug:?}, seed {seed} is not caught: {}", report.text);
            requests *= 2;
        }
    }
}

/// What the witness catches must be the bug, and not the service around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_correct_service_passes() {
    for seed in seeds(Bug::ReadModifyWrite) {
        let service = start(None, seed).await;
        let report = witness::run(&service.url, seed, 3 * REQUESTS).await;
        assert_eq!(report.code, Some(0), "seed {seed}: {}", report.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_modify_write_without_a_lock_is_caught() {
    is_caught(Bug::ReadModifyWrite, &["broken-history"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_guard_is_caught() {
    is_caught(Bug::MissingGuard, &["negative-balance"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_commit_is_caught() {
    is_caught(Bug::AnswerBeforeCommit, &["stale-read", "status-404"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_a_commit_that_fails_is_caught() {
    is_caught(Bug::FailureAfterAnswer, &["missing-entry"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_stored_after_its_effect_is_caught() {
    is_caught(Bug::KeyAfterEffect, &["applied-twice", "different-answers", "wrong-entry"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_stored_before_its_effect_is_caught() {
    is_caught(Bug::KeyBeforeEffect, &["missing-entry"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_an_unknown_commit_is_caught() {
    is_caught(Bug::RetryAfterUnknownCommit, &["applied-twice"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_from_a_stale_cache_is_caught() {
    is_caught(Bug::StaleRefusal, &["impossible-refusal"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapped_answers_within_a_batch_is_caught() {
    is_caught(Bug::SwappedAnswers, &["wrong-entry", "missing-entry", "applied-though-refused"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_split_and_applied_twice_is_caught() {
    is_caught(Bug::SplitBatchAppliedTwice, &["applied-twice"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_transfer_is_caught() {
    is_caught(Bug::HalfTransfer, &["applied-in-part", "one-sided"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_is_captured_twice_is_caught() {
    is_caught(Bug::HoldCapturedTwice, &["resolved-twice"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_hold_that_is_captured_is_caught() {
    is_caught(Bug::ExpiredHoldCaptured, &["resolved-after-expiry"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_503_for_something_that_was_applied_is_caught() {
    is_caught(Bug::AppliedBut503, &["applied-though-refused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_that_stops_half_way_is_caught() {
    is_caught(Bug::BulkStopsHalfWay, &["applied-though-refused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_decides_deposits_first_is_caught() {
    is_caught(Bug::DepositsFirst, &["wrong-order"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_read_from_a_replica_is_caught() {
    is_caught(Bug::StaleRead, &["stale-read"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_what_is_not_committed_is_caught() {
    is_caught(Bug::DirtyRead, &["wrong-read", "read-too-early"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_runs_backwards_is_caught() {
    is_caught(Bug::ClockRunsBackwards, &["time-runs-backwards"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_at_a_moment_that_is_not_over_is_caught() {
    is_caught(Bug::MomentNotFinal, &["wrong-read"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_one_route_only_is_caught() {
    is_caught(Bug::KeyPerRoute, &["applied-twice", "different-answers"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_good_for_any_request_is_caught() {
    is_caught(Bug::KeyForAnyRequest, &["key-reused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_with_the_balance_of_now_is_caught() {
    is_caught(Bug::ReplayOfNow, &["different-answers"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_is_decided_anew_on_retry_is_caught() {
    is_caught(Bug::RefusalNotKept, &["different-answers", "applied-though-refused"]).await;
}

/// On a server of its own, which is killed while the load runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unflushed_commits_and_a_crash_are_caught() {
    let bug = Bug::UnflushedCommits;
    for seed in seeds(bug) {
        let cluster = crash::start().await;
        let pool = prepared(cluster.connect_options(SERVICE_DATABASE), Some(bug)).await;
        let service = Service::start(pool.clone(), Planted::new(Some(bug), seed)).await;
        let run = witness::run(&service.url, seed, 3 * REQUESTS);
        let (report, ()) = tokio::join!(run, crash::crash(&cluster, &pool, 500));
        report.print(bug, seed, report.took);
        report.assert_caught(&["missing-entry"]);
        cluster.stop().await.unwrap();
    }
}
