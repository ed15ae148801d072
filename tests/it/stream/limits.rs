//! The window, back-pressure in both directions, and time-outs.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::client::StreamClient;
use super::{accepted, failed, line, open};
use crate::faults::lock_row;
use crate::service::{TestService, balance_body};

/// As README promises.
const WINDOW_LINES: i64 = 8_192;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_lines_can_be_sent_before_anything_is_read() {
    let service = TestService::start().await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    let padding = " ".repeat(128 - line(1, 1).len());
    let padded = line(1, 1).replace('\n', &format!("{padding}\n"));
    for _ in 0..WINDOW_LINES {
        sender.send(&padded).await;
    }
    sender.finish().await;
    let expected: Vec<_> = (10_001..=10_000 + WINDOW_LINES).map(accepted).collect();
    assert!(results.rest().await == expected);
    service.stop().await;
}

/// Sends until the service takes no more for a second. Returns how many lines it has sent.
async fn send_until_full(sender: &mut super::client::Sender) -> usize {
    let many = line(1, 1).repeat(1_000);
    for thousands in 0..5_000 {
        // Whether a part of these was sent is not known, so this sender is used no more.
        if timeout(Duration::from_secs(1), sender.send(&many)).await.is_err() {
            return thousands * 1_000;
        }
    }
    panic!("five million lines without a single answer that was read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_not_read_from() {
    let service = TestService::start().await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    let sent = send_until_full(&mut sender).await;
    assert!(sent >= usize::try_from(WINDOW_LINES).unwrap(), "{sent}");
    // What was applied is bounded: answers that nobody has taken fill the buffers on the way.
    let applied = service.balance_of(1).await - 10_000;
    assert!(applied < 60_000, "{applied}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(service.balance_of(1).await - 10_000, applied, "and it does not move");
    // Now the client reads, and everything goes on where it was.
    for balance in 10_001..=10_000 + applied {
        assert_eq!(results.next().await, Some(accepted(balance)));
    }
    assert_eq!(results.next().await, Some(accepted(10_001 + applied)));
    service.assert_verified().await;
    drop((sender, results));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_neither_sends_nor_reads_is_cut() {
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "2")]).await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    send_until_full(&mut sender).await;
    let full = Instant::now();
    let gone = async { while sender.try_send(b"\n").await {} };
    timeout(Duration::from_secs(20), gone).await.expect("it is cut");
    assert!(full.elapsed() > Duration::from_millis(500), "{:?}", full.elapsed());
    // What reaches the client are answers to the first lines, without a gap.
    let (found, is_whole) = results.rest_or_cut().await;
    assert!(!is_whole);
    assert!(found.iter().zip(10_001..).all(|(result, balance)| *result == accepted(balance)));
    service.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_is_told_so() {
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "1")]).await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    // Half a line at the end is no line.
    sender.send(&(line(1, -1) + "{\"userId\":1,\"amount\":-1}")).await;
    assert_eq!(results.next().await, Some(accepted(9_999)));
    let answered = Instant::now();
    let sentence = "The request body did not arrive in time";
    assert_eq!(results.next().await, Some(failed(408, sentence)));
    assert!(answered.elapsed() > Duration::from_millis(900), "{:?}", answered.elapsed());
    assert_eq!(results.next().await, None);
    assert_eq!(service.balance_of(1).await, 9_999);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_outs_count_only_the_client_s_lack_of_progress() {
    let service = TestService::start_with(&[("IDLE_TIMEOUT_SECS", "1")]).await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    // Slowly, but steadily: for three times as long as the time-out.
    for left in (9_994..10_000).rev() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        sender.send(&line(1, -1)).await;
        assert_eq!(results.next().await, Some(accepted(left)));
    }
    // A client that waits for an answer makes progress as soon as there is one.
    let lock = lock_row(&service, 1).await;
    sender.send(&line(1, -1)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    lock.rollback().await.unwrap();
    assert_eq!(results.next().await, Some(accepted(9_993)));
    sender.send(&line(1, -1)).await;
    assert_eq!(results.next().await, Some(accepted(9_992)));
    sender.finish().await;
    assert_eq!(results.next().await, None);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_waited_for_and_leaves_room_for_others() {
    let service = TestService::start_with(&[("LANE_QUEUE", "8"), ("LANES", "2")]).await;
    let (user, other) = (service.user_with(0).await, service.user_with(0).await);
    let client = open(&service).await;
    let streaming = client.exchange((line(user, 1) + &line(other, 1)).repeat(5_000));
    let single = async {
        for balance in 1..=100 {
            // A queue that a stream has filled would refuse it.
            assert_eq!(
                service.change("batched", 1, 1).await,
                (200, balance_body(10_000 + balance))
            );
        }
    };
    let (results, ()) = tokio::join!(streaming, single);
    let expected = (1..=5_000).flat_map(|balance| [accepted(balance), accepted(balance)]);
    assert!(results.into_iter().eq(expected));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_its_place_among_the_connections() {
    let service = TestService::start_with(&[("MAX_CONNECTIONS", "2")]).await;
    let StreamClient { mut sender, mut results } = open(&service).await;
    sender.send(&line(1, -1)).await;
    assert_eq!(results.next().await, Some(accepted(9_999)));
    // Each of these needs the place of the one before; the stream has rested for longer.
    let mut others = Vec::new();
    for _ in 0..5 {
        let mut socket = TcpStream::connect(service.service.address()).await.unwrap();
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await.unwrap().unwrap();
        others.push(socket);
    }
    sender.send(&line(1, -1)).await;
    assert_eq!(results.next().await, Some(accepted(9_998)));
    sender.finish().await;
    assert_eq!(results.next().await, None);
    // Its place is free now for one more.
    drop(others);
    assert_eq!(service.change("self", 1, 0).await.0, 200);
    service.stop().await;
}
