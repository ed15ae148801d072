//! Request heads that are too large or malformed, over raw sockets.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[cfg(target_os = "linux")]
use crate::faults::until;
#[cfg(target_os = "linux")]
use crate::process::ServiceProcess;
use crate::service::{TestService, error_body};

const MALFORMED: &str = "The request head is not valid HTTP/1.0 or HTTP/1.1";
const TOO_LARGE: &str =
    "The request head must not be longer than 16384 bytes, nor have more than 100 headers";
const ALIVE: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// A head of exactly `length` bytes.
fn head_of(length: usize) -> String {
    let [start, end] = ["GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ", "\r\n\r\n"];
    format!("{start}{}{end}", "x".repeat(length - start.len() - end.len()))
}

/// Sends these bytes and returns the service's answers until it closes the connection. All bytes can
/// be sent, and all answers can be read.
async fn answers_to(service: &TestService, sent: &str) -> String {
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    let exchange = async {
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        received
    };
    timeout(Duration::from_secs(10), exchange).await.expect("the service closes the connection")
}

/// The answer is exactly one refusal, with nothing before or after it.
#[track_caller]
fn assert_refused(answer: &str, status_line: &str, sentence: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines: Vec<_> = head.lines().filter(|line| !line.starts_with("date: ")).collect();
    let ids = lines.extract_if(.., |line| line.starts_with("x-request-id: ")).count();
    assert_eq!(ids, 1, "{answer}");
    let length = format!("content-length: {}", body.len());
    lines[1..].sort_unstable();
    let headers = ["connection: close", &length, "content-type: application/json"];
    assert_eq!(lines[0], status_line);
    assert_eq!(lines[1..], headers, "{answer}");
    assert_eq!(body, error_body(sentence));
}

#[tokio::test]
async fn a_head_of_16384_bytes_is_read_and_one_byte_more_is_refused() {
    let service = TestService::start().await;
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    let mut answer = [0; 15];
    stream.write_all(head_of(16_384).as_bytes()).await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let answer = answers_to(&service, &head_of(16_385)).await;
    assert_refused(&answer, "HTTP/1.1 431 Request Header Fields Too Large", TOO_LARGE);
    service.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_more_than_is_read_can_read_the_answer() {
    let service = TestService::start().await;
    let unfinished = |length: usize| head_of(length).trim_end().to_owned();
    for sent in [head_of(20_000), head_of(400_000), unfinished(20_000), unfinished(400_000)] {
        let answer = answers_to(&service, &sent).await;
        assert_refused(&answer, "HTTP/1.1 431 Request Header Fields Too Large", TOO_LARGE);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_refused_client_may_finish_sending() {
    let service = TestService::start_with(&[("WORKERS", "1")]).await;
    let head = head_of(400_000);
    let (start, rest) = head.split_at(20_000);
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_refused(&answer, "HTTP/1.1 431 Request Header Fields Too Large", TOO_LARGE);
    // By the time the only worker has answered this, it would have closed a connection that it does
    // not drain.
    assert_eq!(service.send(Method::GET, "/healthz", None).await.status(), 200);
    stream.write_all(rest.as_bytes()).await.expect("the connection is not reset");
    service.stop().await;
}

#[tokio::test]
async fn more_than_100_headers_are_refused() {
    let service = TestService::start().await;
    let head =
        |count: usize| format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(count - 1));
    let answer = answers_to(&service, &head(101)).await;
    assert_refused(&answer, "HTTP/1.1 431 Request Header Fields Too Large", TOO_LARGE);
    // The second head is malformed, so it closes the connection.
    let answers = answers_to(&service, &format!("{}-\r\n\r\n", head(100))).await;
    assert!(answers.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answers}");
    service.stop().await;
}

#[tokio::test]
async fn a_malformed_head_is_answered_like_every_other_error() {
    let service = TestService::start().await;
    for head in [
        "GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /healthz HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET /healthz HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        "GET /healthz HTTP/2.0\r\nhost: x\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\nhost: x\r\n\r\n",
        // The beginning of a TLS handshake.
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
    ] {
        let answer = answers_to(&service, head).await;
        assert_refused(&answer, "HTTP/1.1 400 Bad Request", MALFORMED);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_malformed_head_leaves_the_answers_before_it_as_they_are() {
    let service = TestService::start().await;
    let old = "GET /nowhere HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    for (version, status, request) in [("1.1", "200 OK", ALIVE), ("1.0", "404 Not Found", old)] {
        let answers = answers_to(&service, &format!("{request}{request}no head\r\n\r\n")).await;
        let refused = answers.find(&format!("HTTP/{version} 400")).expect(&answers);
        let (earlier, refusal) = answers.split_at(refused);
        assert_refused(refusal, &format!("HTTP/{version} 400 Bad Request"), MALFORMED);
        assert_eq!(earlier.matches(&format!("HTTP/{version} {status}\r\n")).count(), 2);
        assert!(earlier.ends_with('}'), "{earlier}");
    }
    service.stop().await;
}

/// A client whose head was refused and that has read the answer.
async fn refused_client(service: &TestService) -> TcpStream {
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    stream.write_all(b"no head\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_refused(&answer, "HTTP/1.1 400 Bad Request", MALFORMED);
    stream
}

#[tokio::test]
async fn a_refused_client_that_never_stops_sending_is_let_go() {
    let service = TestService::start().await;
    let mut stream = refused_client(&service).await;
    let sending = async { while stream.write_all(&[b'x'; 65_536]).await.is_ok() {} };
    timeout(Duration::from_secs(30), sending).await.expect("the connection is closed");
    service.stop().await;
}

#[tokio::test]
async fn a_refused_client_that_stays_is_not_waited_for() {
    let service = TestService::start_with(&[("DRAIN_TIMEOUT_SECS", "600")]).await;
    let stream = refused_client(&service).await;
    timeout(Duration::from_secs(60), service.stop()).await.expect("it stops");
    drop(stream);
}

/// The number of bytes in kernel buffers between the clients of a port and its service.
#[cfg(target_os = "linux")]
fn bytes_on_the_way(port: u16) -> u64 {
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let bytes = |queue: &str| u64::from_str_radix(queue, 16).unwrap();
    let queues = table.lines().skip(1).map(|line| {
        // Number, local address, remote address, state, bytes to send:bytes to read, …
        let row: Vec<_> = line.split_whitespace().collect();
        let (to_send, to_read) = row[4].split_once(':').unwrap();
        let of_client = if row[2].ends_with(&port) { bytes(to_send) } else { 0 };
        let of_service = if row[1].ends_with(&port) { bytes(to_read) } else { 0 };
        of_client + of_service
    });
    queues.sum()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn heads_that_never_end_take_little_memory() {
    const CLIENTS: u64 = 1_000;
    let service = ServiceProcess::start("true").await;
    let before = service.memory_kb_max();
    let head = head_of(400_000);
    let clients = futures_util::future::join_all((0..CLIENTS).map(async |_| {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        // A slow client may be disconnected, which does not matter for memory.
        let _ = stream.write_all(head.trim_end().as_bytes()).await;
        stream
    }));
    let clients = timeout(Duration::from_secs(60), clients).await.expect("all heads are sent");
    let port = service.address.port();
    until("the service has read all of them", async || bytes_on_the_way(port) == 0).await;
    let each = (service.memory_kb_max() - before) / CLIENTS;
    assert!(each < 40, "{each} kB for each connection");
    drop(clients);
}
