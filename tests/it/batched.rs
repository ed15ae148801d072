//! The failures that only `batched` can have: between the changes of one batch, in a full queue, on
//! a lost connection.
//!
//! The test keeps the row of one user locked, so the lane waits inside a statement. All changes sent
//! meanwhile go into the next batch together.

use std::sync::Arc;

use sqlx::{Postgres, Transaction};
use tokio::task::JoinHandle;

use crate::faults::{lock_row, send_and_hang_up, until, waiting_for_locks};
use crate::metrics::Metrics;
use crate::service::{Answer, TestService, balance_body, error_body, insufficient};

/// A lane that waits for a locked row, and the change that waits there.
struct BusyLane {
    service: Arc<TestService>,
    lock: Transaction<'static, Postgres>,
    first: JoinHandle<(Answer, bool)>,
}

impl BusyLane {
    async fn start(variables: &[(&str, &str)], key: Option<&'static str>) -> Self {
        // With these, the lane waits for the row for as long as the test keeps it locked.
        let mut all = vec![
            ("LANES", "1"),
            ("KEY_WAIT_SECS", "1"),
            ("LOCK_WAIT_MILLIS", "60000"),
            ("ANSWER_TIMEOUT_SECS", "121"),
        ];
        all.extend(variables);
        let service = Arc::new(TestService::start_with(&all).await);
        let lock = lock_row(&service, 1).await;
        let first = send(&service, 1, -1, key);
        until("the lane waits for the row", async || waiting_for_locks(&service).await == 1).await;
        Self { service, lock, first }
    }

    /// Waits until `count` changes are in the lane's queue.
    async fn until_queued(&self, count: usize) {
        let count = count.to_string();
        until("they are in the queue", async || {
            Metrics::scrape(&self.service).await.value("plimsoll_lane_queue") == count
        })
        .await;
    }

    /// Sends a change to the busy lane.
    fn queue(
        &self,
        user: i64,
        amount: i64,
        key: Option<&'static str>,
    ) -> JoinHandle<(Answer, bool)> {
        send(&self.service, user, amount, key)
    }
}

fn send(
    service: &Arc<TestService>,
    user: i64,
    amount: i64,
    key: Option<&'static str>,
) -> JoinHandle<(Answer, bool)> {
    let service = Arc::clone(service);
    tokio::spawn(async move {
        match key {
            Some(key) => service.keyed("batched", user, amount, key).await,
            None => (service.change("batched", user, amount).await, false),
        }
    })
}

async fn finish(service: Arc<TestService>) {
    Arc::into_inner(service).expect("all clients are done").stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_change_never_fails_its_neighbours() {
    let busy = BusyLane::start(&[], None).await;
    let rich = busy.service.user_with(i64::MAX - 5).await;
    let poor = busy.service.user_with(3).await;
    let overflow = busy.queue(rich, 100, None);
    let fits = busy.queue(rich, -7, None);
    let unknown = busy.queue(4_711, -1, None);
    let too_much = busy.queue(poor, -4, None);
    let affordable = busy.queue(poor, -3, None);
    busy.until_queued(5).await;
    busy.lock.rollback().await.unwrap();
    assert_eq!(busy.first.await.unwrap().0, (200, balance_body(9_999)));
    // In either order of the two changes of `rich`, each gets the answer to its own change.
    assert_eq!(overflow.await.unwrap().0, (400, error_body("Balance out of range")));
    assert_eq!(fits.await.unwrap().0, (200, balance_body(i64::MAX - 12)));
    assert_eq!(unknown.await.unwrap().0, (404, error_body("User not found")));
    assert_eq!(too_much.await.unwrap().0, insufficient());
    assert_eq!(affordable.await.unwrap().0, (200, balance_body(0)));
    finish(busy.service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_twice_in_one_batch_is_one_change_and_a_replay() {
    let busy = BusyLane::start(&[], None).await;
    // Two instances, because the per-key lock of one process would serialize the duplicates: they
    // must meet in the database.
    let other = TestService::start_on(busy.service.database.clone(), &[("LANES", "1")]).await;
    let user = busy.service.user_with(10).await;
    let one = busy.queue(user, -4, Some("k"));
    let same = other.keyed("batched", user, -4, "k").await;
    busy.lock.rollback().await.unwrap();
    let one = one.await.unwrap();
    assert_eq!(one.0, (200, balance_body(6)));
    assert_eq!(same.0, one.0);
    assert_ne!(same.1, one.1, "one is the change, the other a replay");
    busy.first.await.unwrap();
    assert_eq!(other.balance_of(user).await, 6);
    other.stop().await;
    finish(busy.service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_before_anything_was_sent() {
    let busy = BusyLane::start(&[("LANE_QUEUE", "1")], None).await;
    let user = busy.service.user_with(10).await;
    let clients: Vec<_> = (0..3).map(|_| busy.queue(user, -1, None)).collect();
    // The queue has room for one: two of the three are refused at once, while the lane is busy.
    until("two are refused", async || {
        clients.iter().filter(|client| client.is_finished()).count() == 2
    })
    .await;
    busy.lock.rollback().await.unwrap();
    let mut answers = Vec::new();
    for client in clients {
        answers.push(client.await.unwrap().0);
    }
    answers.sort();
    let refused = (503, error_body("Not applied, try again"));
    assert_eq!(answers, [(200, balance_body(9)), refused.clone(), refused]);
    assert_eq!(busy.service.balance_of(user).await, 9);
    busy.first.await.unwrap();
    finish(busy.service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_waited_goes_into_one_batch() {
    let busy = BusyLane::start(&[], None).await;
    let user = busy.service.user_with(10).await;
    let clients: Vec<_> = (0..7).map(|_| busy.queue(user, -1, None)).collect();
    busy.until_queued(7).await;
    busy.lock.rollback().await.unwrap();
    busy.first.await.unwrap();
    for client in clients {
        assert_eq!(client.await.unwrap().0.0, 200);
    }
    let metrics = Metrics::scrape(&busy.service).await;
    assert_eq!(metrics.value("plimsoll_batch_changes_count"), "2");
    assert_eq!(metrics.value("plimsoll_batch_changes_sum"), "8.0");
    finish(busy.service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_write_nothing() {
    let busy = BusyLane::start(&[], None).await;
    let user = busy.service.user_with(1).await;
    let before = row_version(&busy.service, user).await;
    let clients: Vec<_> = (0..3).map(|_| busy.queue(user, -2, None)).collect();
    busy.until_queued(3).await;
    busy.lock.rollback().await.unwrap();
    for client in clients {
        assert_eq!(client.await.unwrap().0, insufficient());
    }
    assert_eq!(busy.service.change("batched", user, -2).await, insufficient());
    assert_eq!(row_version(&busy.service, user).await, before);
    busy.first.await.unwrap();
    finish(busy.service).await;
}

/// The row's position, the transaction that wrote it, and the one that last locked it.
async fn row_version(service: &TestService, user: i64) -> (String, String, String) {
    sqlx::query_as("SELECT ctid::text, xmin::text, xmax::text FROM users WHERE id = $1")
        .bind(user)
        .fetch_one(&service.pool)
        .await
        .unwrap()
}

/// Two processes that locked the same users in different orders would deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_of_a_batch_are_locked_in_the_order_of_their_ids() {
    let busy = BusyLane::start(&[], None).await;
    let mut users = Vec::new();
    for _ in 0..6 {
        users.push(busy.service.user_with(10).await);
    }
    assert!(users.is_sorted());
    let [low, middle @ .., high] = users.as_slice() else { panic!("{users:?}") };
    let lowest = lock_row(&busy.service, *low).await;
    let highest = lock_row(&busy.service, *high).await;
    let mut clients = Vec::new();
    for (place, user) in users.iter().rev().enumerate() {
        clients.push(busy.queue(*user, -1, None));
        busy.until_queued(place + 1).await;
    }
    busy.lock.rollback().await.unwrap();
    busy.first.await.unwrap();
    until("the batch waits for the lowest", async || waiting_for_locks(&busy.service).await == 1)
        .await;
    assert_eq!(unlocked(&busy.service, middle).await, middle);
    lowest.rollback().await.unwrap();
    until("it has locked all but the highest", async || {
        unlocked(&busy.service, middle).await.is_empty()
    })
    .await;
    highest.rollback().await.unwrap();
    for client in clients {
        assert_eq!(client.await.unwrap().0, (200, balance_body(9)));
    }
    finish(busy.service).await;
}

/// The users whose rows are not locked.
async fn unlocked(service: &TestService, users: &[i64]) -> Vec<i64> {
    sqlx::query_scalar(
        "SELECT id FROM users WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED",
    )
    .bind(users)
    .fetch_all(&service.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_in_the_queue_does_not_bother_its_neighbours() {
    let busy = BusyLane::start(&[], None).await;
    let user = busy.service.user_with(100).await;
    for _ in 0..5 {
        send_and_hang_up(&busy.service, "batched", user, -1).await;
    }
    let neighbour = busy.queue(user, -10, None);
    busy.lock.rollback().await.unwrap();
    assert_eq!(neighbour.await.unwrap().0.0, 200);
    busy.first.await.unwrap();
    // How many of the five changes the service reads before it sees the connection close is up to
    // chance. In any case, journal and balance must agree (checked by `stop`).
    let balance = busy.service.balance_of(user).await;
    assert!((85..=90).contains(&balance), "{balance}");
    finish(busy.service).await;
}

async fn end_lane_sessions(service: &TestService) {
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'plimsoll' \
           AND wait_event_type = 'Lock'",
    )
    .execute(&service.pool)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_flight_on_a_lost_connection_has_an_unknown_outcome() {
    let busy = BusyLane::start(&[], None).await;
    end_lane_sessions(&busy.service).await;
    let unknown = "Outcome unknown: the change may or may not have been applied";
    assert_eq!(busy.first.await.unwrap().0, (504, error_body(unknown)));
    busy.lock.rollback().await.unwrap();
    // The lane has a new connection at once.
    assert_eq!(busy.service.change("batched", 1, 0).await.0, 200);
    assert_eq!(busy.service.change("batched", 1, -1).await.0, 200);
    finish(busy.service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_with_a_key_survives_the_loss_of_its_connection() {
    let busy = BusyLane::start(&[], Some("k")).await;
    end_lane_sessions(&busy.service).await;
    // The change is sent again on a new connection, and waits for the same row.
    until("it waits again", async || waiting_for_locks(&busy.service).await == 1).await;
    busy.lock.rollback().await.unwrap();
    assert_eq!(busy.first.await.unwrap(), ((200, balance_body(9_999)), false));
    assert_eq!(busy.service.keyed("batched", 1, -1, "k").await, ((200, balance_body(9_999)), true));
    assert_eq!(busy.service.journal_rows(1).await, 2);
    assert_eq!(Metrics::scrape(&busy.service).await.retries("batched"), "1");
    finish(busy.service).await;
}
