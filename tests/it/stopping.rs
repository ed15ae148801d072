//! The end of the service: announced first, and no request is dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use sqlx::{ConnectOptions, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::faults::{PATIENT, lock_row, until, waiting_for_locks};
use crate::process::ServiceProcess;
use crate::service::{TestService, balance_body, error_body, read};

/// How often the service is stopped under load.
const STOPS: usize = 5;

#[tokio::test]
async fn a_stop_is_announced_while_requests_are_still_served() {
    let service = TestService::start().await;
    let user = service.user_with(1_000).await;
    assert_eq!(service.send(Method::GET, "/readyz", None).await.status(), 200);
    service.service.leave();
    let ready = service.send(Method::GET, "/readyz", None).await;
    assert_eq!(read(ready).await, (503, error_body("The service is stopping")));
    assert_eq!(service.send(Method::GET, "/healthz", None).await.status(), 200);
    let body = json!({ "userId": user, "amount": -1 });
    let response = service.send(Method::PATCH, "/approach/self/balance", Some(body)).await;
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(read(response).await, (200, balance_body(999)));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_delay() {
    let mut process = ServiceProcess::start_with("true", &[("STOP_DELAY_SECS", "600")]).await;
    process.terminate();
    until("it leaves", async || status(process.address, "/readyz").await == 503).await;
    assert_eq!(status(process.address, "/healthz").await, 200);
    process.terminate();
    timeout(Duration::from_secs(30), process.ended()).await.expect("it ends");
}

async fn status(address: SocketAddr, path: &str) -> u16 {
    reqwest::get(format!("http://{address}{path}")).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_closes_resting_connections_at_once() {
    let service = TestService::start_with(&[("DRAIN_TIMEOUT_SECS", "600")]).await;
    let address = service.service.address();
    let silent = TcpStream::connect(address).await.unwrap();
    let mut used = TcpStream::connect(address).await.unwrap();
    used.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(used.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
    }
    let stopped = timeout(Duration::from_secs(60), service.stop()).await;
    stopped.expect("a connection without a request is not waited for");
    answer.clear();
    assert_eq!(used.read_buf(&mut answer).await.unwrap(), 0);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_the_requests_in_flight() {
    let service = TestService::start_with(&[PATIENT]).await;
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

/// What the clients of one process have seen.
#[derive(Default)]
struct Seen {
    accepted: AtomicU64,
}

/// Changes until no connection can be made any more. Panics if a request that was sent gets no answer.
async fn client(address: SocketAddr, pause: Duration, keeps_alive: bool, seen: &Seen) {
    // The service drops the first packet of a connection that comes too late.
    let connect = async || timeout(Duration::from_millis(500), TcpStream::connect(address)).await;
    while let Ok(Ok(mut stream)) = connect().await {
        loop {
            sleep(pause).await;
            let response = change(&mut stream).await.expect("a request that was sent is answered");
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            seen.accepted.fetch_add(1, Ordering::Relaxed);
            if !keeps_alive || response.contains("\r\nconnection: close\r\n") {
                break;
            }
        }
    }
}

async fn change(stream: &mut TcpStream) -> io::Result<String> {
    send(stream).await?;
    response(stream).await
}

async fn send(stream: &mut TcpStream) -> io::Result<()> {
    let body = r#"{"userId":1,"amount":1}"#;
    let length = body.len();
    let request = format!(
        "PATCH /approach/batched/balance HTTP/1.1\r\nhost: x\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await
}

async fn response(stream: &mut TcpStream) -> io::Result<String> {
    let mut response = Vec::new();
    while !response.ends_with(b"}") {
        if stream.read_buf(&mut response).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8(response).expect("text"))
}

/// A stopped process lets requests pile up in the kernel, on used connections and on ones that it has not
/// accepted. So all of them have been sent before the service hears of its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_before_a_stop_is_answered() {
    for stop in 1..=STOPS {
        let variables = [("STOP_DELAY_SECS", "0")];
        let mut process = ServiceProcess::start_with("ulimit -n 4096", &variables).await;
        let mut streams = Vec::new();
        for _ in 0..200 {
            let mut used = TcpStream::connect(process.address).await.unwrap();
            change(&mut used).await.unwrap();
            streams.push(used);
        }
        process.signal("-STOP");
        for _ in 0..200 {
            streams.push(TcpStream::connect(process.address).await.unwrap());
        }
        for stream in &mut streams {
            send(stream).await.unwrap();
        }
        process.terminate();
        process.signal("-CONT");
        for (number, stream) in streams.iter_mut().enumerate() {
            let answer = timeout(Duration::from_secs(30), response(stream)).await.expect("in time");
            let answer = answer.unwrap_or_else(|error| panic!("stop {stop}, {number}: {error}"));
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "stop {stop}, {number}: {answer}");
        }
        process.ended().await;
    }
}

/// Clients that keep their connection, make one for each request, and wait before they send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_answers_every_request_and_resets_no_connection() {
    for stop in 1..=STOPS {
        let mut process = ServiceProcess::start("ulimit -n 4096").await;
        let (address, seen) = (process.address, Seen::default());
        let clients = futures_util::future::join_all((0..60).map(|number| {
            let pause = Duration::from_millis([0, 0, 0, 20, 100][number % 5]);
            client(address, pause, number % 2 == 0, &seen)
        }));
        let stopping = async {
            until("there is load", async || seen.accepted.load(Ordering::Relaxed) > 300).await;
            process.terminate();
            process.ended().await;
        };
        let limit = Duration::from_secs(60);
        timeout(limit, futures_util::future::join(clients, stopping)).await.expect("it ends");
        let mut connection = process.database.connect().await.unwrap();
        let (balance, version): (i64, i64) =
            sqlx::query_as("SELECT balance, version FROM users WHERE id = 1")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        connection.close().await.unwrap();
        let accepted = seen.accepted.into_inner();
        assert_eq!(balance - 10_000, i64::try_from(accepted).unwrap(), "stop {stop}");
        assert_eq!(version - 1, balance - 10_000, "stop {stop}");
    }
}
