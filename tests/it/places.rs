//! More clients than `MAX_CONNECTIONS` or open files: which connections are closed, and which are
//! accepted.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::faults::{PATIENT, lock_row, until, waiting_for_locks};
use crate::process::ServiceProcess;
use crate::service::{TestService, balance_body, error_body};

const PLACES: usize = 8;
const ALIVE: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// Well below the idle time-out of one minute, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(5);

async fn start() -> TestService {
    TestService::start_with(&[("MAX_CONNECTIONS", &PLACES.to_string())]).await
}

async fn connect(address: SocketAddr, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

/// Opens as many connections as there are places, and sends `sent` on each.
async fn fill(service: &TestService, sent: &str) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..PLACES {
        streams.push(connect(service.service.address(), sent).await);
    }
    streams
}

/// Reads one answer, which is JSON, to the end of its body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let reading = async {
        while !received.ends_with(b"}") {
            let read = stream.read_buf(&mut received).await.expect("no reset");
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&received));
        }
    };
    timeout(SOON, reading).await.expect("an answer");
    String::from_utf8(received).unwrap()
}

/// Asks for the service's health on a connection.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(ALIVE.as_bytes()).await.unwrap();
    assert!(answer(stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// A new client that gets an answer and stays connected.
async fn newcomer(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream).await;
    stream
}

async fn assert_closed(stream: &mut TcpStream) {
    let read = timeout(SOON, stream.read_u8()).await.expect("the connection is closed");
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn the_oldest_silent_connection_makes_room() {
    let service = start().await;
    let mut silent = fill(&service, "").await;
    let _new = newcomer(service.service.address()).await;
    assert_closed(&mut silent[0]).await;
    for stream in &mut silent[1..] {
        ask(stream).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn the_oldest_half_head_makes_room_and_the_others_can_be_completed() {
    let service = start().await;
    let (half, rest) = ALIVE.split_at(10);
    let mut started = fill(&service, half).await;
    let _new = newcomer(service.service.address()).await;
    assert_closed(&mut started[0]).await;
    for stream in &mut started[1..] {
        stream.write_all(rest.as_bytes()).await.unwrap();
        assert!(answer(stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    service.stop().await;
}

#[tokio::test]
async fn the_connection_whose_last_answer_is_oldest_makes_room() {
    let service = start().await;
    let address = service.service.address();
    let mut used = Vec::new();
    for _ in 0..PLACES {
        used.push(newcomer(address).await);
    }
    // After these answers, the order in which they were opened no longer matters.
    for number in [0, 1, 3, 4, 2, 7, 6, 5] {
        ask(&mut used[number]).await;
    }
    let mut new = Vec::new();
    for number in [0, 1, 3] {
        new.push(newcomer(address).await);
        assert_closed(&mut used[number]).await;
    }
    for number in [4, 2, 7, 6, 5] {
        ask(&mut used[number]).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn a_refused_client_that_stays_makes_room() {
    let service = start().await;
    let mut refused = fill(&service, "no head\r\n\r\n").await;
    for stream in &mut refused {
        assert!(answer(stream).await.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    }
    let _new = newcomer(service.service.address()).await;
    service.stop().await;
}

fn withdrawal(user: i64) -> String {
    let body = format!(r#"{{"userId":{user},"amount":-2}}"#);
    format!(
        "PATCH /approach/self/balance HTTP/1.1\r\nhost: x\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_stays_and_is_answered() {
    let service = start().await;
    let address = service.service.address();
    let lock = lock_row(&service, 1).await;
    let mut busy = connect(address, &withdrawal(1)).await;
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    // Enough newcomers to close all of the other connections twice.
    let mut others = Vec::new();
    for _ in 0..3 * PLACES {
        others.push(newcomer(address).await);
    }
    lock.rollback().await.unwrap();
    assert!(answer(&mut busy).await.ends_with(&balance_body(9_998)));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_places_are_busy_a_newcomer_is_refused_at_once() {
    let service = TestService::start_with(&[("MAX_CONNECTIONS", "1"), PATIENT]).await;
    let address = service.service.address();
    let lock = lock_row(&service, 1).await;
    let mut busy = connect(address, &withdrawal(1)).await;
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    // The first of these silent clients never gets to sending a request. A refused client can send its
    // request all the same, and read the response to its end.
    for sent in ["", ALIVE, &withdrawal(1)] {
        let mut new = connect(address, sent).await;
        let mut received = String::new();
        timeout(SOON, new.read_to_string(&mut received)).await.expect("at once").unwrap();
        let body = error_body("Not applied, try again");
        let length = body.len();
        assert_eq!(
            received,
            format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
                 retry-after: 1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        );
    }
    lock.rollback().await.unwrap();
    assert!(answer(&mut busy).await.ends_with(&balance_body(9_998)));
    // It is idle now, so it makes room; all were busy a moment ago, so this is not looked at at once.
    until("it makes room", async || {
        let mut new = connect(address, ALIVE).await;
        answer(&mut new).await.starts_with("HTTP/1.1 200 OK\r\n")
    })
    .await;
    assert_closed(&mut busy).await;
    service.stop().await;
}

#[tokio::test]
async fn a_flood_of_silent_connections_does_not_keep_others_out() {
    let service = start().await;
    let address = service.service.address();
    let mut flood = Vec::new();
    for _ in 0..500 {
        flood.push(connect(address, "").await);
    }
    let _new = newcomer(address).await;
    service.stop().await;
}

/// The limit is well above the number of files that the service itself opens.
#[tokio::test]
async fn more_connections_than_open_files_do_not_keep_others_out() {
    let service = ServiceProcess::start("ulimit -n 64").await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(service.address, "").await);
    }
    let _new = newcomer(service.address).await;
    assert_closed(&mut silent[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_keeps_its_place_until_its_request_has_ended() {
    let service = TestService::start_with(&[("MAX_CONNECTIONS", "1"), PATIENT]).await;
    let address = service.service.address();
    let lock = lock_row(&service, 1).await;
    let gone = connect(address, &withdrawal(1)).await;
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    gone.set_zero_linger().unwrap();
    drop(gone);
    // So clients that hang up and come again cannot have more requests in flight than connections.
    for _ in 0..3 {
        let mut new = connect(address, ALIVE).await;
        assert!(answer(&mut new).await.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    }
    lock.rollback().await.unwrap();
    until("its place is free", async || {
        let mut new = connect(address, ALIVE).await;
        answer(&mut new).await.starts_with("HTTP/1.1 200 OK\r\n")
    })
    .await;
    assert_eq!(service.balance_of(1).await, 9_998);
    service.stop().await;
}
