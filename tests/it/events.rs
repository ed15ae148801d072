//! `GET /users/{id}/events`: each entry once, in order, as long as somebody watches.

mod busy;
pub(crate) mod client;
mod faults;
mod hosts;
mod limits;
mod resuming;

use std::sync::Arc;

use plimsoll::approach::registry;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::operations::{capture, post, release, reserve, transfer};
use crate::service::{TestService, error_body, read};
use client::Events;

async fn open(service: &TestService, user: i64) -> Events {
    Events::open(service.service.address(), user).await
}

/// With the longest references, a bulk may have no more.
const BULK: usize = 700;

/// Makes so many entries with bulks, through one instance.
async fn make_entries(service: &TestService, user: i64, count: usize, reference: &str) {
    for first in (0..count).step_by(BULK) {
        let change = json!({ "userId": user, "amount": 1, "reference": reference });
        let changes = vec![change; (count - first).min(BULK)];
        let body = json!({ "changes": changes });
        let (answer, _) = post(service, "/changes", body, None).await;
        assert!(answer.0 == 200 && !answer.1.contains("error"), "{}", answer.1);
    }
}

/// The items of a user's whole history, oldest first, as they are sent.
async fn history(service: &TestService, user: i64) -> Vec<String> {
    #[derive(Deserialize)]
    struct Page {
        changes: Vec<Box<RawValue>>,
        next: Option<i64>,
    }
    let (mut items, mut before) = (Vec::new(), i64::MAX);
    loop {
        let path = format!("/users/{user}/changes?limit=500&before={before}");
        let (status, text) = read(service.send(Method::GET, &path, None).await).await;
        assert_eq!(status, 200, "{text}");
        let page: Page = serde_json::from_str(&text).unwrap();
        items.extend(page.changes.into_iter().map(|item| item.get().to_owned()));
        match page.next {
            Some(next) => before = next,
            None => break,
        }
    }
    items.reverse();
    items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_each_entry_once_and_in_order_as_the_history_shows_it() {
    let service = TestService::start().await;
    let (user, other) = (service.user_with(1_000).await, service.user_with(0).await);
    let mut events = open(&service, user).await;
    for header in
        ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"]
    {
        assert!(events.head.contains(&format!("{header}\r\n")), "{}", events.head);
    }
    let state = events.next().await.unwrap();
    assert_eq!((state.id, &*state.name), (1, "state"));
    assert_eq!(state.data, r#"{"balance":1000,"held":0,"version":1}"#);
    // Every kind, and every member that an entry may have.
    for number in 0..15 {
        for name in registry::names() {
            service.keyed(name, user, -1, &format!("{name}-{number}")).await;
        }
        let body = json!({ "userId": user, "amount": 9, "reference": "a \"b\" \\ ü\u{2028}💶" });
        assert_eq!(
            post(
                &service,
                "/transfers",
                json!({ "from": user, "to": other, "amount": 3,
            "reference": "rent" }),
                Some(&format!("t{number}"))
            )
            .await
            .0
            .0,
            201
        );
        let path = "/approach/batched/balance";
        assert_eq!(service.send(Method::PATCH, path, Some(body)).await.status(), 200);
    }
    transfer(&service, other, user, 5).await;
    let holds = [reserve(&service, user, 7).await, reserve(&service, user, 8).await];
    assert_eq!(capture(&service, user, holds[0], json!({ "to": other, "amount": 2 })).await.0, 200);
    assert_eq!(release(&service, user, holds[1]).await.0, 200);
    let history = history(&service, user).await;
    assert!(history.len() > 100, "{}", history.len());
    let last = i64::try_from(history.len()).unwrap();
    let seen = events.changes(2..=last).await;
    for (event, item) in seen.iter().zip(&history[1..]) {
        assert_eq!(event.data, *item);
        assert_eq!(event.json()["version"], event.id);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_watchers_of_a_user_cost_one_question_at_a_time_and_none_costs_nothing() {
    use crate::faults::until;
    use crate::metrics::Metrics;
    use crate::proxy::Proxy;

    const POLLS: &str = "plimsoll_feed_poll_seconds_count";
    let database = crate::cluster::shared().await.fresh_database().await;
    let proxy = Proxy::in_front_of(&database).await;
    // Nothing else asks the database by itself for a while.
    let variables = [("HOLD_SWEEP_SECS", "86400")];
    let service = TestService::start_through(proxy.database.clone(), database, &variables).await;
    let polls = async || Metrics::scrape(&service).await.value(POLLS).parse::<u32>().unwrap();
    assert_eq!(service.change("batched", 1, 1).await.0, 200);
    assert_eq!(polls().await, 0, "nobody watches");

    let mut watchers = Vec::new();
    for _ in 0..50 {
        watchers.push(open(&service, 1).await);
        assert_eq!(watchers.last_mut().unwrap().next().await.unwrap().name, "state");
    }
    let (before, began) = (proxy.round_trips(), polls().await);
    until("some polls", async || polls().await >= began + 20).await;
    let trips = proxy.round_trips() - before;
    // A poll is one; its plans are made anew once a second, and the figures of the database are read.
    assert!((15..=50).contains(&trips), "{trips}");
    assert_eq!(service.change("batched", 1, 1).await.0, 200);
    for watcher in &mut watchers {
        assert_eq!(watcher.change().await.id, 3);
    }
    let metrics = Metrics::scrape(&service).await;
    assert_eq!(metrics.value("plimsoll_event_streams"), "50");
    assert_eq!(metrics.value("plimsoll_watched_users"), "1");
    assert_eq!(metrics.value("plimsoll_events_sent_total"), "50");

    drop(watchers);
    // A client that has gone is noticed when something is sent to it.
    until("nobody watches", async || {
        service.change("batched", 1, 1).await;
        Metrics::scrape(&service).await.value("plimsoll_watched_users") == "0"
    })
    .await;
    let ended = polls().await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(polls().await, ended);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers_of_many_users_see_all_of_their_own_entries_and_no_others() {
    let service = Arc::new(TestService::start().await);
    let mut users = Vec::new();
    for _ in 0..20 {
        users.push(service.user_with(100).await);
    }
    let mut watchers = Vec::new();
    for (number, user) in users.iter().enumerate() {
        for _ in 0..=number % 3 {
            watchers.push((*user, open(&service, *user).await));
        }
    }
    let changing = users.iter().map(|user| make_entries(&service, *user, 500, "r"));
    let watching = watchers.iter_mut().map(async |(user, events)| {
        assert_eq!(events.next().await.unwrap().name, "state");
        let seen = events.changes(2..=501).await;
        (*user, seen)
    });
    let (seen, _) = tokio::join!(
        futures_util::future::join_all(watching),
        futures_util::future::join_all(changing)
    );
    for (user, events) in seen {
        let history = history(&service, user).await;
        assert!(events.iter().map(|event| &event.data).eq(&history[1..]), "{user}");
    }
    drop(watchers);
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_before_a_stream_begins() {
    let service = TestService::start().await;
    let range = "must be a whole number from 0 to 9223372036854775807";
    let beyond = "must not be more than the user's version, which is 1";
    let get = async |path: &str, id: Option<&str>| {
        let mut request = service.client.get(format!("{}{path}", service.url));
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        read(request.send().await.unwrap()).await
    };
    for (path, id, status, sentence) in [
        ("/users/999999/events", None, 404, "User not found".to_owned()),
        ("/users/999999/events", Some("0"), 404, "User not found".to_owned()),
        ("/users/0/events", None, 400, {
            "The user id must be a whole number from 1 to 9223372036854775807".to_owned()
        }),
        ("/users/1/events", Some("x"), 400, format!("Last-Event-ID {range}")),
        ("/users/1/events", Some("-1"), 400, format!("Last-Event-ID {range}")),
        ("/users/1/events", Some("2"), 400, format!("Last-Event-ID {beyond}")),
        ("/users/1/events?after=1", Some("2"), 400, format!("Last-Event-ID {beyond}")),
        ("/users/1/events?after=", None, 400, format!("after {range}")),
        ("/users/1/events?after=2", None, 400, format!("after {beyond}")),
        ("/users/1/events?since=1", None, 400, {
            "Unknown parameter \"since\"; there are after".to_owned()
        }),
    ] {
        let expected = (status, error_body(&sentence));
        assert_eq!(get(path, id).await, expected, "{path} {id:?}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let response = service.send(method.clone(), "/users/1/events", None).await;
        assert_eq!(response.headers()["allow"], "GET,HEAD", "{method}");
        assert_eq!(read(response).await, (405, error_body("Method not allowed")), "{method}");
    }
    // No stream, and the connection goes on.
    for _ in 0..3 {
        let response = service.send(Method::HEAD, "/users/1/events", None).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("content-length"), None, "nobody knows");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
    }
    let unknown = service.send(Method::HEAD, "/users/999999/events", None).await;
    assert_eq!(unknown.status(), 404);
    let metrics = crate::metrics::Metrics::scrape(&service).await;
    assert_eq!(metrics.value("plimsoll_event_streams"), "0");
    assert_eq!(metrics.value("plimsoll_feed_poll_seconds_count"), "0");
    service.stop().await;
}
