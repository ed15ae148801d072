//! Many requests on one connection, and clients that reset it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::cases;
use crate::faults::until;
use crate::service::{TestService, balance_body};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pipelined_requests_are_answered_in_order() {
    const CHANGES: i64 = 1_000;
    let service = TestService::start().await;
    let stream = TcpStream::connect(service.service.address()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let alive = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let ten = alive.repeat(9) + &cases::valid().replace("/self/", "/batched/");
    let sending = tokio::spawn(async move {
        for _ in 0..CHANGES {
            writing.write_all(ten.as_bytes()).await.unwrap();
        }
        // It sends nothing more, which ends the connection after the last answer.
    });
    // Nothing is read before the service has begun to answer, and all of its answers must come.
    until("it has begun", async || service.balance_of(1).await < 10_000).await;
    let mut received = String::new();
    timeout(PATIENCE, reading.read_to_string(&mut received)).await.expect("all answers").unwrap();
    sending.await.unwrap();
    let responses = super::parse(received.as_bytes());
    assert_eq!(responses.len(), 10_000);
    for (ten, left) in responses.chunks(10).zip((0..10_000).rev()) {
        assert!(ten.iter().all(|response| response.status == 200));
        assert_eq!(ten[9].body, balance_body(left));
    }
    service.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn pipelined_answers_that_nobody_reads_take_little_memory() {
    use crate::process::ServiceProcess;
    const COUNT: usize = 300;
    let service = ServiceProcess::start("true").await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let request = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut one = vec![0; 1_000_000];
    let mut length = 0;
    while !one[..length].ends_with(b"\n}") {
        length += stream.read(&mut one[length..]).await.unwrap();
    }
    let before = service.memory_kb_max();
    stream.write_all(request.repeat(COUNT).as_bytes()).await.unwrap();
    // The service answers others, so it has come to the pipelined ones as well.
    for _ in 0..20 {
        let mut other = TcpStream::connect(service.address).await.unwrap();
        let alive = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        other.write_all(alive).await.unwrap();
        let mut received = String::new();
        timeout(PATIENCE, other.read_to_string(&mut received)).await.expect("an answer").unwrap();
        assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
    }
    let (grown, all) = (service.memory_kb_max() - before, COUNT * length / 1_000);
    assert!(grown < 8_000, "{grown} kB for {all} kB of answers");
    let mut left = COUNT * length;
    while left > 0 {
        let read = timeout(PATIENCE, stream.read(&mut one)).await.expect("all answers").unwrap();
        assert!(read > 0, "{left} bytes are missing");
        left -= read;
    }
}

#[tokio::test]
async fn a_request_whose_connection_is_reset_is_applied_in_full_or_not_at_all() {
    const COUNT: i64 = 200;
    let service = TestService::start().await;
    for number in 0..COUNT {
        let stream = TcpStream::connect(service.service.address()).await.unwrap();
        let sent = cases::valid();
        // Some of them without the last byte.
        let length = sent.len() - usize::from(number % 2 == 0);
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(&sent.as_bytes()[..length]).unwrap(), length);
        // Closing it sends a reset.
        stream.set_zero_linger().unwrap();
    }
    assert_eq!(service.change("self", 1, 0).await.0, 200, "the service goes on");
    let rows = service.journal_rows(1).await;
    assert!(rows <= 1 + COUNT / 2, "{rows} entries of {} whole requests", COUNT / 2);
    // The journal and the balance are compared in the end.
    service.stop().await;
}
