//! The bounds of streams: how many, how much memory, and how long.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{End, Events};
use super::{make_entries, open};
use crate::faults::until;
use crate::metrics::Metrics;
use crate::process::ServiceProcess;
use crate::service::{TestService, error_body, read};

async fn open_streams(service: &TestService) -> String {
    Metrics::scrape(service).await.value("plimsoll_event_streams").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_keeps_a_stream_open_for_longer_than_the_idle_time_out() {
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "3")]).await;
    let mut events = open(&service, 1).await;
    assert_eq!(events.next().await.unwrap().name, "state");
    for _ in 0..5 {
        assert_eq!(events.block().await.as_deref(), Some(": still here"));
    }
    service.change("self", 1, -1).await;
    assert_eq!(events.change().await.id, 2);
    drop(events);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cut() {
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "6")]).await;
    let user = service.user_with(0).await;
    let mut stalled = open(&service, user).await;
    let mut reading = open(&service, user).await;
    let open_connections = async || {
        let metrics = Metrics::scrape(&service).await;
        metrics.find("plimsoll_http_connections_open").unwrap()
    };
    let before = open_connections().await;
    let reference = "💶".repeat(255);
    let reader = reading.changes_from(1, 20_000);
    // More than the kernel keeps for a client.
    let ((), seen) = tokio::join!(make_entries(&service, user, 20_000, &reference), reader);
    assert_eq!(seen, 20_000);
    until("one stream is left", async || open_streams(&service).await == "1").await;
    until("its place is free", async || open_connections().await < before).await;
    assert_eq!(stalled.end().await, End::Cut);
    service.change("self", user, 1).await;
    assert_eq!(reading.change().await.id, 20_001);
    drop(reading);
    service.stop().await;
}

/// Ten clients that do not read. What they miss together is 125 MB.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_watchers_that_do_not_read_is_bounded() {
    let process = ServiceProcess::start_with("true", &[("IDLE_TIMEOUT_SECS", "600")]).await;
    let client = reqwest::Client::new();
    let mut slow = Vec::new();
    for _ in 0..10 {
        slow.push(Events::open(process.address, 1).await);
    }
    let change = json!({ "userId": 1, "amount": 1, "reference": "💶".repeat(255) });
    let body = json!({ "changes": vec![change; 700] }).to_string();
    let send = async || {
        let request = client.post(format!("http://{}/changes", process.address));
        let request = request.header("content-type", "application/json").body(body.clone());
        let (status, text) = read(request.send().await.unwrap()).await;
        assert!(status == 200 && !text.contains("error"), "{text}");
    };
    send().await;
    let before = process.memory_kb_max();
    for _ in 1..15 {
        send().await;
    }
    let seen = join_all(slow.iter_mut().map(async |events| {
        assert_eq!(events.next().await.unwrap().id, 1);
        events.changes_from(2, 10_501).await
    }))
    .await;
    assert_eq!(seen, [10_500; 10]);
    let grown = process.memory_kb_max() - before;
    assert!(grown < 50_000, "{grown} kB");
    eprintln!("{grown} kB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_the_connections_may_be_streams_and_the_rest_is_for_requests() {
    let service = TestService::start_with(&[("MAX_CONNECTIONS", "8")]).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(open(&service, 1).await);
    }
    for _ in 0..3 {
        let refused = service.client.get(format!("{}/users/1/events", service.url)).send().await;
        let refused = refused.unwrap();
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(read(refused).await, (503, error_body("Not applied, try again")));
    }
    // Each of these needs the place of the one before. No stream gives up its own.
    let mut others = Vec::new();
    for _ in 0..12 {
        let mut socket = TcpStream::connect(service.service.address()).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await.unwrap().unwrap();
        others.push(socket);
    }
    assert_eq!(service.change("self", 1, -1).await.0, 200);
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().name, "state");
        assert_eq!(stream.change().await.id, 2);
    }
    // The place of a client that has gone is free when something is sent to it.
    streams.pop();
    until("a place is free", async || {
        service.change("self", 1, -1).await;
        open_streams(&service).await == "3"
    })
    .await;
    open(&service, 1).await;
    drop(streams);
    service.stop().await;
}
