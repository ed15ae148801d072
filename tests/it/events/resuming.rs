//! A stream goes on where another one has ended: later, on another instance, or after a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::client::Events;
use super::{history, make_entries, open};
use crate::metrics::Metrics;
use crate::service::{TestService, stop_both, two_instances};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_behind_any_version_on_any_instance_and_after_a_restart() {
    let service = TestService::start().await;
    let user = service.user_with(1).await;
    make_entries(&service, user, 59, "r").await;
    let history = history(&service, user).await;
    let check = async |service: &TestService| {
        for after in 0..=60 {
            let address = service.service.address();
            let mut events = match after % 3 {
                0 => {
                    let path = format!("/users/{user}/events?after={after}");
                    Events::request(address, &path, "").await
                }
                _ => Events::resume(address, user, after).await,
            };
            let begin = events.block().await.unwrap();
            assert!(begin.ends_with(&format!("\n: after version {after}")), "{begin}");
            let seen = events.changes(after + 1..=60).await;
            let expected = &history[usize::try_from(after).unwrap()..];
            assert!(seen.iter().map(|event| &event.data).eq(expected), "{after}");
        }
    };
    check(&service).await;
    let other = TestService::start_on(service.database.clone(), &[]).await;
    check(&other).await;
    let database = service.database.clone();
    service.stop().await;
    other.stop().await;
    let again = TestService::start_on(database, &[]).await;
    check(&again).await;
    // And it goes on from there.
    let mut events = Events::resume(again.service.address(), user, 60).await;
    again.change("self", user, 1).await;
    assert_eq!(events.change().await.id, 61);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_another_instance_arrive_within_half_a_second() {
    let instances = two_instances(None).await;
    let [here, there] = &instances;
    let mut events = open(here, 1).await;
    assert_eq!(events.next().await.unwrap().id, 1);
    let mut waits = Vec::new();
    for version in 2..=40 {
        assert_eq!(there.change("batched", 1, -1).await.0, 200);
        let answered = Instant::now();
        assert_eq!(events.change().await.id, version);
        waits.push(answered.elapsed());
    }
    // Half of them, so that a machine that stops for a moment does not matter.
    waits.sort();
    let median = waits[waits.len() / 2];
    assert!(median < Duration::from_millis(500), "{waits:?}");
    // The service's own figures say the same.
    let metrics = Metrics::scrape(here).await;
    let soon = metrics.find("plimsoll_event_lag_seconds_bucket{le=\"0.5\"}").unwrap();
    let all = metrics.find("plimsoll_event_lag_seconds_count").unwrap();
    assert!(soon >= all / 2.0 && all > 30.0, "{soon} of {all}");
    drop(events);
    stop_both(instances).await;
}

/// Changes through two instances, and watchers that come, go, and come back elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_come_and_go_under_load_see_each_entry_once() {
    const LAST: i64 = 12_120;
    const PARTS: i64 = 12;
    let instances = two_instances(None).await;
    let [one, two] = &instances;
    let user = one.user_with(0).await;
    let changing = async {
        let both = [one, two].map(|service| make_entries(service, user, 6_000, "r"));
        join_all(both).await;
        // Slowly, so that rings take over from pages.
        for _ in 0..60 {
            one.change("batched", user, 1).await;
            two.change("self", user, 1).await;
        }
    };
    let watching = (0..8).map(async |watcher: usize| {
        let (mut seen, mut part) = (0, 0);
        while seen < LAST {
            let service: &Arc<TestService> = [one, two][(watcher + part) % 2];
            let mut events = Events::resume(service.service.address(), user, seen).await;
            let until = (seen + LAST / PARTS).min(LAST);
            events.changes(seen + 1..=until).await;
            seen = until;
            part += 1;
        }
        assert!(part >= usize::try_from(PARTS).unwrap());
    });
    tokio::join!(join_all(watching), changing);
    stop_both(instances).await;
}

/// A client that does not read for a while, twenty thousand entries behind at last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_gets_everything_and_others_do_not_wait_for_it() {
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "600")]).await;
    let user = service.user_with(0).await;
    let mut slow = open(&service, user).await;
    assert_eq!(slow.next().await.unwrap().id, 0);
    let mut quick = open(&service, user).await;
    assert_eq!(quick.next().await.unwrap().id, 0);
    let reference = "x".repeat(255);
    let making = make_entries(&service, user, 20_000, &reference);
    let ((), seen) = tokio::join!(making, quick.changes(1..=20_000));
    assert_eq!(seen.len(), 20_000);
    service.change("self", user, 1).await;
    assert_eq!(quick.change().await.id, 20_001);
    let pages = async || Metrics::scrape(&service).await.find("plimsoll_feed_pages_total").unwrap();
    let before = pages().await;
    let seen = slow.changes(1..=20_001).await;
    assert_eq!(seen[0].json()["balance"], 1);
    assert_eq!(seen[20_000].json()["balance"], 20_001);
    assert!(pages().await > before + 10.0, "it has read on from the journal");
    drop((slow, quick));
    service.stop().await;
}
