//! More requests than a queue has places: who gets in, and who is refused at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::faults::{lock_row, until, waiting_for_locks};
use crate::metrics::Metrics;
use crate::service::TestService;
use crate::stream::client::StreamClient;

const CHANGES: &str = "plimsoll_lane_queue";
const OPERATIONS: &str = "plimsoll_operation_queue";

/// One lane, which waits for the row of user 1 for as long as the test keeps it locked.
struct Held {
    service: Arc<TestService>,
    lock: sqlx::Transaction<'static, sqlx::Postgres>,
    first: JoinHandle<u16>,
}

/// A request with a body.
type Asked = (Method, &'static str, Value);

fn change(user: i64) -> Asked {
    (Method::PATCH, "/approach/batched/balance", json!({ "userId": user, "amount": -1 }))
}

fn transfer(from: i64, to: i64) -> Asked {
    (Method::POST, "/transfers", json!({ "from": from, "to": to, "amount": 1 }))
}

fn bulk(user: i64, count: usize) -> Asked {
    let changes = vec![json!({ "userId": user, "amount": -1 }); count];
    (Method::POST, "/changes", json!({ "changes": changes }))
}

impl Held {
    async fn start(queue: Option<&str>, first: Asked) -> Self {
        let mut variables =
            vec![("LANES", "1"), ("LOCK_WAIT_MILLIS", "60000"), ("ANSWER_TIMEOUT_SECS", "121")];
        variables.extend(queue.map(|places| ("LANE_QUEUE", places)));
        let service = Arc::new(TestService::start_with(&variables).await);
        for _ in 0..9 {
            service.user_with(10_000).await;
        }
        let lock = lock_row(&service, 1).await;
        let first = send(&service, first);
        until("the lane waits for the row", async || waiting_for_locks(&service).await == 1).await;
        Self { service, lock, first }
    }

    /// Sends them, of which so many get a place. All others must be refused before the lane goes on.
    /// Returns those that wait.
    async fn flood(
        &self,
        queue: &str,
        requests: Vec<Asked>,
        accepted: usize,
        waiting: usize,
    ) -> Vec<JoinHandle<u16>> {
        let refused = requests.len() - accepted;
        let mut sent: Vec<_> =
            requests.into_iter().map(|request| send(&self.service, request)).collect();
        until("the others are refused", async || {
            sent.iter().filter(|task| task.is_finished()).count() >= refused
        })
        .await;
        for answered in sent.extract_if(.., |task| task.is_finished()) {
            assert_eq!(answered.await.unwrap(), 503);
        }
        assert_eq!(sent.len(), accepted);
        self.until_waiting(queue, waiting).await;
        sent
    }

    async fn until_waiting(&self, queue: &str, waiting: usize) {
        let waiting = waiting.to_string();
        until("they are in the queue", async || {
            Metrics::scrape(&self.service).await.value(queue) == waiting
        })
        .await;
    }

    /// Releases the row: everybody who waits has success.
    async fn end(self, waiting: Vec<JoinHandle<u16>>) -> Arc<TestService> {
        self.lock.rollback().await.unwrap();
        for answered in std::iter::once(self.first).chain(waiting) {
            assert!([200, 201].contains(&answered.await.unwrap()));
        }
        self.service
    }
}

/// Sends a request, and returns the status. A refusal says when to come again.
fn send(service: &Arc<TestService>, (method, path, body): Asked) -> JoinHandle<u16> {
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let response = service.send(method, path, Some(body)).await;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(retry_after, (status == 503).then_some("1"));
        status
    })
}

fn times(count: usize, request: impl Fn() -> Asked) -> Vec<Asked> {
    std::iter::repeat_with(request).take(count).collect()
}

async fn stop(service: Arc<TestService>) {
    Arc::into_inner(service).expect("all clients are done").stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_fills_three_quarters_of_a_lane_and_others_find_the_rest() {
    let held = Held::start(Some("16"), change(1)).await;
    let mut waiting = held.flood(CHANGES, times(20, || change(1)), 12, 12).await;
    waiting.extend(held.flood(CHANGES, times(5, || change(2)), 4, 16).await);
    let metrics = Metrics::scrape(&held.service).await;
    let name = "plimsoll_changes_total{approach=\"batched\",outcome=\"not_applied\"}";
    assert_eq!(metrics.value(name), (8 + 1).to_string());
    let service = held.end(waiting).await;
    assert_eq!(service.balance_of(1).await, 10_000 - 13);
    assert_eq!(service.balance_of(2).await, 10_000 - 4);
    // The places are free again.
    assert_eq!(send(&service, bulk(1, 12)).await.unwrap(), 200);
    stop(service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_ten_thousand_finds_room_by_default_and_a_bulk_counts_each_change() {
    let held = Held::start(None, change(1)).await;
    let mut waiting = held.flood(CHANGES, times(10, || bulk(1, 1_000)), 10, 10_000).await;
    waiting.extend(held.flood(CHANGES, times(2, || bulk(1, 1_000)), 2, 12_000).await);
    waiting.extend(held.flood(CHANGES, vec![bulk(1, 289), bulk(1, 288)], 1, 12_288).await);
    held.flood(CHANGES, vec![change(1)], 0, 12_288).await;
    waiting.extend(held.flood(CHANGES, vec![bulk(2, 1_000), change(3)], 2, 13_289).await);
    stop(held.end(waiting).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_leaves_room_for_others_even_for_those_who_pay_the_same_user() {
    let held = Held::start(Some("16"), transfer(1, 9)).await;
    let mut waiting = held.flood(OPERATIONS, times(20, || transfer(1, 2)), 12, 12).await;
    waiting.extend(held.flood(OPERATIONS, times(5, || transfer(3, 2)), 2, 14).await);
    // The payee can pay, and everybody can pay others.
    waiting.extend(held.flood(OPERATIONS, vec![transfer(2, 4)], 1, 15).await);
    waiting.extend(held.flood(OPERATIONS, times(2, || transfer(3, 4)), 1, 16).await);
    stop(held.end(waiting).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_waits_for_its_user_s_share_and_not_for_that_of_others() {
    let held = Held::start(Some("16"), change(1)).await;
    let mut waiting = held.flood(CHANGES, times(12, || change(1)), 12, 12).await;
    let line = |user: i64| format!("{{\"userId\":{user},\"amount\":-1}}\n");
    let address = held.service.service.address();
    let (mut full, mut other) =
        (StreamClient::open(address).await, StreamClient::open(address).await);
    full.sender.send(&line(1)).await;
    other.sender.send(&line(2)).await;
    held.until_waiting(CHANGES, 13).await;
    // Only one of the two has a place.
    waiting.extend(held.flood(CHANGES, times(5, || change(3)), 3, 16).await);
    let service = held.end(waiting).await;
    assert_eq!(full.results.next().await, Some(json!({ "balance": 9_986 })));
    assert_eq!(other.results.next().await, Some(json!({ "balance": 9_999 })));
    for stream in [full, other] {
        stream.sender.finish().await;
    }
    stop(service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_changes_wait_for_sessions_leaves_connections_to_others() {
    let service = Arc::new(TestService::start_with(&[("MAX_CONNECTIONS", "16")]).await);
    let other = service.user_with(10).await;
    let lock = lock_row(&service, 1).await;
    let of = |user: i64| {
        (Method::PATCH, "/approach/self/balance", json!({ "userId": user, "amount": -1 }))
    };
    let mut sent: Vec<_> = (0..20).map(|_| send(&service, of(1))).collect();
    until("eight are refused", async || sent.iter().filter(|task| task.is_finished()).count() >= 8)
        .await;
    assert_eq!(send(&service, of(other)).await.unwrap(), 200);
    let refused: Vec<_> = sent.extract_if(.., |task| task.is_finished()).collect();
    lock.rollback().await.unwrap();
    for answered in sent {
        assert_eq!(answered.await.unwrap(), 200);
    }
    assert_eq!(refused.len(), 8);
    assert_eq!(service.balance_of(1).await, 10_000 - 12);
    stop(service).await;
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut received = String::new();
    let reading = stream.read_to_string(&mut received);
    timeout(Duration::from_secs(10), reading).await.expect("it is closed").unwrap();
    received
}

#[tokio::test]
async fn a_connection_may_rest_for_longer_than_a_head_may_take() {
    let service = TestService::start_with(&[("HEAD_TIMEOUT_SECS", "1")]).await;
    let alive = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    for _ in 0..2 {
        stream.write_all(alive.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"}") {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0, "closed");
        }
        // It rests, for longer than the limit of a head.
        sleep(Duration::from_millis(2_500)).await;
    }
    // The limit counts from the first byte of the head.
    let begun = Instant::now();
    stream.write_all(&alive.as_bytes()[..10]).await.unwrap();
    assert_eq!(read_to_end(stream).await, "");
    let waited = begun.elapsed();
    assert!((Duration::from_millis(999)..Duration::from_secs(10)).contains(&waited), "{waited:?}");
    service.stop().await;
}
