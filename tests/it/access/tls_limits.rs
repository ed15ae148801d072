//! Clients that begin a handshake and do not go on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::certificate::Certificate;
use super::client::ask;
use crate::service::TestService;

/// Well below the default time limit of one minute, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The begin of a handshake: a record of 512 bytes, of which only a few come.
const HALF_A_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

async fn connect(service: &TestService, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// Waits until the service has closed it.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // It may end with an alert, or with a reset if bytes were left unread.
    let reading = timeout(SOON, stream.read_to_end(&mut rest));
    let _ = reading.await.expect("the connection is closed");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let certificate = Certificate::new();
    let variables = [&certificate.variables()[..], &[("HEAD_TIMEOUT_SECS", "1")]].concat();
    let service = TestService::start_with(&variables).await;
    for sent in [&b""[..], HALF_A_HELLO] {
        closed(&mut connect(&service, sent).await).await;
    }
    // The first head has as long again.
    let mut silent = certificate.connect(service.service.address()).await;
    let ended = timeout(SOON, silent.read(&mut [0])).await.expect("the connection is closed");
    assert_eq!(ended.unwrap_or(0), 0);
    service.stop().await;
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_at_once() {
    let certificate = Certificate::new();
    let service = TestService::start_with(&certificate.variables()).await;
    for sent in
        [&b"\0\0\0\0\0\0\0\0"[..], b"no head\r\n\r\n", b"\x16\x03\x01\xff\xff garbage", &[0x80, 1]]
    {
        // The third is longer than a record may be; the last is a handshake of SSL 2.
        let mut stream = connect(&service, sent).await;
        stream.shutdown().await.unwrap();
        closed(&mut stream).await;
    }
    let mut stream = certificate.connect(service.service.address()).await;
    assert_eq!(ask(&mut stream, "GET", "/healthz", "").await.0, 200);
    service.stop().await;
}

#[tokio::test]
async fn unfinished_handshakes_make_room_for_others() {
    let certificate = Certificate::new();
    let variables = [&certificate.variables()[..], &[("MAX_CONNECTIONS", "4")]].concat();
    let service = TestService::start_with(&variables).await;
    let mut unfinished = Vec::new();
    for sent in [&b""[..], HALF_A_HELLO, b"", HALF_A_HELLO] {
        unfinished.push(connect(&service, sent).await);
    }
    let mut open = Vec::new();
    for stream in &mut unfinished {
        let newcomer = timeout(SOON, certificate.connect(service.service.address()));
        let mut newcomer = newcomer.await.expect("a place");
        assert_eq!(ask(&mut newcomer, "GET", "/healthz", "").await.0, 200);
        open.push(newcomer);
        closed(stream).await;
    }
    // Those that were served before are still there.
    for stream in &mut open {
        assert_eq!(ask(stream, "GET", "/healthz", "").await.0, 200);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_handshake() {
    let certificate = Certificate::new();
    let variables = [&certificate.variables()[..], &[("DRAIN_TIMEOUT_SECS", "600")]].concat();
    let service = TestService::start_with(&variables).await;
    let streams = [connect(&service, b"").await, connect(&service, HALF_A_HELLO).await];
    timeout(Duration::from_secs(60), service.stop()).await.expect("it stops");
    drop(streams);
}
