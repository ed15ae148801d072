//! `POST /changes` with mode `each`: every change is decided for itself, in order.

mod all;

use std::collections::HashMap;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

use crate::faults::{PATIENT, lock_row, until, waiting_for_locks};
use crate::metrics::Metrics;
use crate::service::{Answer, TestService, balance_body, error_body, insufficient, read};

const USED: &str = "The Idempotency-Key was used before with another request";
const RUNNING: &str = "A change with the same Idempotency-Key is still running, try again";

/// Sends a body to `/changes`.
pub(crate) async fn send(service: &TestService, body: Value) -> Answer {
    read(service.send(Method::POST, "/changes", Some(body)).await).await
}

async fn send_text(service: &TestService, body: String) -> Answer {
    let request = service.client.post(format!("{}/changes", service.url));
    let request = request.header("content-type", "application/json").body(body);
    read(request.send().await.unwrap()).await
}

/// Sends changes, which must be decided, and returns their results.
async fn apply(service: &TestService, changes: &[Value]) -> Vec<Value> {
    let (status, text) = send(service, json!({ "changes": changes })).await;
    assert_eq!(status, 200, "{text}");
    let mut body: Value = serde_json::from_str(&text).unwrap();
    let results = body["results"].as_array_mut().map(std::mem::take).unwrap();
    assert_eq!(results.len(), changes.len());
    results
}

fn accepted(balance: i64) -> Value {
    json!({ "balance": balance })
}

fn failed(status: u16, sentence: &str) -> Value {
    json!({ "status": status, "error": sentence })
}

fn keyed(user: i64, amount: i64, key: &str) -> Value {
    json!({ "userId": user, "amount": amount, "key": key })
}

fn keyless(user: i64, amount: i64) -> Value {
    json!({ "userId": user, "amount": amount })
}

#[tokio::test]
async fn every_change_is_decided_for_itself_and_answered_in_order() {
    let service = TestService::start().await;
    let (poor, rich) = (service.user_with(3).await, service.user_with(i64::MAX).await);
    let changes = json!({ "mode": "each", "changes": [
        { "userId": 1, "amount": -2, "reference": "rent" },
        { "userId": poor, "amount": -4 },
        { "userId": poor, "amount": 0 },
        { "userId": 4_711, "amount": 1 },
        { "userId": rich, "amount": 1 },
        { "userId": poor, "amount": -3, "key": "last" },
        { "userId": poor, "amount": 0, "key": "read" },
        { "userId": rich, "amount": i64::MIN + 1 },
    ]});
    let expected = [
        r#"{"balance":9998}"#,
        r#"{"status":400,"error":"Insufficient funds"}"#,
        r#"{"balance":3}"#,
        r#"{"status":404,"error":"User not found"}"#,
        r#"{"status":400,"error":"Balance out of range"}"#,
        r#"{"balance":0}"#,
        r#"{"balance":0}"#,
        r#"{"balance":0}"#,
    ];
    let body = format!("{{\"results\":[{}]}}", expected.join(","));
    assert_eq!(send(&service, changes).await, (200, body));
    // A change of zero only reads: it has no journal row, with or without a key.
    assert_eq!(service.journal_rows(poor).await, 2);
    assert_eq!(service.keyed("self", poor, 0, "read").await, ((200, balance_body(0)), true));
    service.stop().await;
}

#[tokio::test]
async fn a_malformed_change_is_its_own_400_and_leaves_its_neighbours_alone() {
    let service = TestService::start().await;
    let cases = [
        ("{}", "userId and amount are required"),
        (r#"{"userId":1,"amount":null}"#, "userId and amount are required"),
        (
            r#"{"userId":0,"amount":1}"#,
            "userId must be a whole number from 1 to 9223372036854775807",
        ),
        (
            r#"{"userId":1,"amount":"1"}"#,
            "amount must be a whole number from -9223372036854775807 to 9223372036854775807",
        ),
        (
            r#"{"userId":1,"amount":1,"to":2}"#,
            "Unknown member \"to\"; a change may have userId, amount, key, reference",
        ),
        (r#"{"userId":1,"amount":1,"amount":1}"#, "amount must not be given twice"),
        (r#"{"userId":1,"amount":1,"key":7}"#, KEY_RULE),
        (r#"{"userId":1,"amount":1,"key":""}"#, KEY_RULE),
        (r#"{"userId":1,"amount":1,"key":"a b"}"#, KEY_RULE),
        (r#"{"userId":1,"amount":1,"key":"\u00e9"}"#, KEY_RULE),
        (
            r#"{"userId":1,"amount":1,"reference":"a\u0000"}"#,
            "reference must be a string of 1 to 255 characters without control characters",
        ),
        ("[1,1]", "A change must be a JSON object with userId, amount, key, reference"),
        ("7", "A change must be a JSON object with userId, amount, key, reference"),
    ];
    let mut changes = vec![keyless(1, -1).to_string()];
    let mut expected = vec![accepted(9_999)];
    for ((text, sentence), left) in cases.into_iter().zip((0..9_999).rev()) {
        changes.extend([text.to_owned(), keyless(1, -1).to_string()]);
        expected.extend([failed(400, sentence), accepted(left)]);
    }
    let body = format!("{{\"changes\":[{}]}}", changes.join(","));
    let (status, text) = send_text(&service, body).await;
    assert_eq!(
        (status, serde_json::from_str(&text).ok()),
        (200, Some(json!({ "results": expected })))
    );
    service.stop().await;
}

const KEY_RULE: &str = "key must be a string of 1 to 255 visible ASCII characters";

#[tokio::test]
async fn a_malformed_request_is_a_400_as_a_whole() {
    let service = TestService::start().await;
    let change = r#"{"userId":1,"amount":-1}"#;
    let rule = "changes must be an array of 1 to 1000 changes";
    let mode = "mode must be \"each\" or \"all\"";
    for (body, sentence) in [
        ("{}".to_owned(), rule),
        (r#"{"changes":[]}"#.to_owned(), rule),
        (r#"{"changes":null}"#.to_owned(), rule),
        (format!(r#"{{"changes":{change}}}"#), rule),
        (format!(r#"{{"mode":"any","changes":[{change}]}}"#), mode),
        (format!(r#"{{"mode":["each"],"changes":[{change}]}}"#), mode),
        (
            format!(r#"{{"changes":[{change}],"key":"k"}}"#),
            "Unknown member \"key\"; the request body may have mode, changes",
        ),
        (format!("[{change}]"), "The request body must be a JSON object with mode, changes"),
    ] {
        assert_eq!(send_text(&service, body.clone()).await, (400, error_body(sentence)), "{body}");
    }
    for body in [format!(r#"{{"changes":[{change}"#), format!(r#"{{"changes":[{change},]}}"#)] {
        let (status, text) = send_text(&service, body.clone()).await;
        assert_eq!(status, 400, "{body}");
        assert!(text.starts_with(r#"{"error":"The request body is not valid JSON: "#), "{text}");
    }
    let key = service
        .client
        .post(format!("{}/changes", service.url))
        .header("content-type", "application/json")
        .header("idempotency-key", "k")
        .body(format!(r#"{{"changes":[{change}]}}"#));
    let for_all = "Idempotency-Key is for mode all: give each change a key of its own";
    assert_eq!(read(key.send().await.unwrap()).await, (400, error_body(for_all)));
    let text = service.client.post(format!("{}/changes", service.url)).body("x");
    let kinds = "Content-Type must be application/json or application/x-ndjson";
    assert_eq!(read(text.send().await.unwrap()).await, (415, error_body(kinds)));
    assert_eq!(service.balance_of(1).await, 10_000);
    service.stop().await;
}

#[tokio::test]
async fn a_thousand_changes_and_a_mebibyte_are_the_most() {
    let service = TestService::start().await;
    let changes = |count: usize| vec![keyless(1, -1); count];
    assert_eq!(apply(&service, &changes(1_000)).await[999], accepted(9_000));
    let too_many = error_body("The request body must not have more than 1000 changes");
    let sent = send(&service, json!({ "changes": changes(1_001) })).await;
    assert_eq!(sent, (413, too_many));
    let short = json!({ "changes": changes(1) }).to_string();
    let longest = short.clone() + &" ".repeat(1_048_576 - short.len());
    assert_eq!(send_text(&service, longest.clone()).await.0, 200);
    let too_long = error_body("The request body must not be longer than 1048576 bytes");
    assert_eq!(send_text(&service, longest + " ").await, (413, too_long));
    assert_eq!(service.balance_of(1).await, 8_999);
    service.stop().await;
}

/// Generated amounts around the line, so that some are refused: held against a model.
#[tokio::test]
async fn the_same_user_many_times_gives_running_balances_in_order() {
    let service = TestService::start().await;
    let users = [service.user_with(50).await, service.user_with(5).await];
    let mut random = fastrand::Rng::with_seed(12);
    let mut balances: HashMap<i64, i64> = [(users[0], 50), (users[1], 5)].into();
    for _ in 0..5 {
        let (mut changes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..1_000 {
            let user = users[random.usize(0..4) / 3];
            let amount = random.i64(-30..29);
            let balance = balances.get_mut(&user).unwrap();
            if *balance + amount >= 0 {
                *balance += amount;
                expected.push(accepted(*balance));
            } else {
                expected.push(failed(400, "Insufficient funds"));
            }
            changes.push(keyless(user, amount));
        }
        assert_eq!(apply(&service, &changes).await, expected);
    }
    for user in users {
        assert_eq!(service.balance_of(user).await, balances[&user]);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_duplicate_within_the_request_is_a_replay() {
    let service = TestService::start().await;
    let (user, other) = (service.user_with(10).await, service.user_with(10).await);
    let before = service.keyed("self", user, -1, "before").await.0;
    assert_eq!(before, (200, balance_body(9)));
    let changes = [
        keyed(user, -4, "a"),
        keyed(user, -4, "a"),
        keyless(user, -1),
        keyed(user, -4, "a"),
        keyed(user, -5, "a"),
        keyed(other, -5, "a"),
        keyed(user, -1, "before"),
        keyed(user, -9, "refused"),
        keyless(user, 20),
        keyed(user, -9, "refused"),
    ];
    let expected = [
        accepted(5),
        accepted(5),
        accepted(4),
        accepted(5),
        failed(422, USED),
        accepted(5),
        accepted(9),
        failed(400, "Insufficient funds"),
        accepted(24),
        failed(400, "Insufficient funds"),
    ];
    assert_eq!(apply(&service, &changes).await, expected);
    // Every change with a key is a replay now, and every other one happens again.
    let again = apply(&service, &changes).await;
    let fresh = [(2, accepted(23)), (8, accepted(43))];
    for (position, result) in again.iter().enumerate() {
        let fresh = fresh.iter().find(|(at, _)| *at == position);
        assert_eq!(result, fresh.map_or(&expected[position], |(_, result)| result), "{position}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_use_elsewhere_is_a_409_at_once_and_nothing_of_it_is_applied() {
    let service = Arc::new(TestService::start_with(&[PATIENT]).await);
    let (user, other) = (service.user_with(10).await, service.user_with(10).await);
    let lock = lock_row(&service, user).await;
    let first = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.keyed("self", user, -1, "k").await }
    });
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    let asked = Instant::now();
    let changes = [keyed(user, -1, "k"), keyless(other, -1), keyed(other, -1, "k")];
    let results = apply(&service, &changes).await;
    assert_eq!(results, [failed(409, RUNNING), accepted(9), accepted(8)]);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    lock.rollback().await.unwrap();
    assert_eq!(first.await.unwrap().0, (200, balance_body(9)));
    assert_eq!(apply(&service, &changes[..1]).await, [accepted(9)]);
    assert_eq!(service.journal_rows(user).await, 2);
    Arc::into_inner(service).unwrap().stop().await;
}

/// Sends a bulk on a connection of its own.
async fn send_raw(service: &TestService, body: &Value) -> TcpStream {
    let body = body.to_string();
    let request = format!(
        "POST /changes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stays_in_use_until_its_change_is_answered_even_if_the_client_hangs_up() {
    let service = TestService::start_with(&[("KEY_WAIT_SECS", "1"), PATIENT]).await;
    let user = service.user_with(10).await;
    let lock = lock_row(&service, user).await;
    let body = json!({ "changes": [keyed(user, -1, "k"), keyed(user, -1, "k")] });
    let client = send_raw(&service, &body).await;
    until("it waits for the row", async || waiting_for_locks(&service).await == 1).await;
    drop(client);
    for _ in 0..3 {
        assert_eq!(apply(&service, &[keyed(user, -1, "k")]).await, [failed(409, RUNNING)]);
        let single = service.keyed("self", user, -1, "k").await;
        assert_eq!(single, ((409, error_body(RUNNING)), false));
    }
    lock.rollback().await.unwrap();
    until("the key is free", async || {
        apply(&service, &[keyed(user, -1, "k")]).await == [accepted(9)]
    })
    .await;
    assert_eq!(service.journal_rows(user).await, 2);
    service.stop().await;
}

#[tokio::test]
async fn places_are_taken_together_or_the_whole_request_is_a_503() {
    let service = TestService::start_with(&[("LANE_QUEUE", "8"), ("LANES", "2")]).await;
    let refused = (503, error_body("Not applied, try again"));
    assert_eq!(send(&service, json!({ "changes": vec![keyless(1, -1); 7] })).await, refused);
    // One user has six of the places.
    assert_eq!(apply(&service, &vec![keyless(1, -1); 6]).await[5], accepted(9_994));
    // Of 17 users, at least 9 belong to one of the two lanes. The other lane has room for its own.
    let mut users = Vec::new();
    for _ in 0..17 {
        users.push(service.user_with(10).await);
    }
    let changes: Vec<_> = users.iter().map(|user| keyed(*user, -1, "k")).collect();
    assert_eq!(send(&service, json!({ "changes": changes })).await, refused);
    for user in &users {
        assert_eq!(service.journal_rows(*user).await, 1);
    }
    // Nothing is left behind: neither places nor locks of keys.
    for part in changes.chunks(8) {
        assert!(apply(&service, part).await.iter().all(|result| *result == accepted(9)));
    }
    service.stop().await;
}

#[tokio::test]
async fn changes_of_a_bulk_are_counted_as_those_of_batched() {
    let service = TestService::start_with(&[("DEFAULT_APPROACH", "self")]).await;
    let changes = [
        keyed(1, -1, "k"),
        keyed(1, -1, "k"),
        keyless(1, -10_000),
        keyless(4_711, 1),
        json!({ "userId": 1 }),
    ];
    apply(&service, &changes).await;
    let metrics = Metrics::scrape(&service).await;
    for (end, count) in [("accepted", "1"), ("replayed", "1"), ("refused", "1"), ("rejected", "1")]
    {
        let name = format!("plimsoll_changes_total{{approach=\"batched\",outcome=\"{end}\"}}");
        assert_eq!(metrics.value(&name), count, "{end}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_row_delays_only_the_changes_of_its_own_user() {
    let service = TestService::start().await;
    let (held, free) = (service.user_with(10).await, service.user_with(10).await);
    let lock = lock_row(&service, held).await;
    let results = apply(&service, &[keyless(held, -1), keyless(free, -1)]).await;
    assert_eq!(results, [failed(503, "Not applied, try again"), accepted(9)]);
    lock.rollback().await.unwrap();
    assert_eq!(service.change("batched", held, -11).await, insufficient());
    service.stop().await;
}

/// Sends copies of all keys in shuffled order, in several requests at once, until none is a 409. `send`
/// sends a withdrawal of 1 for each key, in one request, and returns the results.
async fn flood<F: Future<Output = Vec<Value>> + Send>(
    service: &Arc<TestService>,
    (keys, copies, part): (usize, usize, usize),
    send: impl Fn(Arc<TestService>, Vec<String>) -> F + Copy + Send + 'static,
) {
    let mut all: Vec<usize> = (0..keys * copies).map(|number| number % keys).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut all);
    let mut clients = tokio::task::JoinSet::new();
    for part in all.chunks(part) {
        let (service, mut left) = (Arc::clone(service), part.to_vec());
        clients.spawn(async move {
            let mut answers = Vec::new();
            while !left.is_empty() {
                let keys = left.iter().map(|key| format!("k{key}")).collect();
                let results = send(Arc::clone(&service), keys).await;
                assert_eq!(results.len(), left.len());
                let mut again = Vec::new();
                for (key, result) in left.into_iter().zip(results) {
                    match result["status"].as_i64() {
                        None => answers.push((key, result["balance"].as_i64().unwrap())),
                        // Another request uses it at this moment.
                        Some(409) => again.push(key),
                        Some(_) => panic!("{result}"),
                    }
                }
                left = again;
            }
            answers
        });
    }
    let mut first = HashMap::new();
    for (key, balance) in clients.join_all().await.into_iter().flatten() {
        assert_eq!(*first.entry(key).or_insert(balance), balance, "{key}");
    }
    assert_eq!(first.len(), keys);
}

/// A thousand keys ten times each, and twice more after a restart, so many in a request. The withdrawals
/// are of user 2.
pub(crate) async fn check_duplicates<F: Future<Output = Vec<Value>> + Send>(
    part: usize,
    send: impl Fn(Arc<TestService>, Vec<String>) -> F + Copy + Send + 'static,
) {
    let service = Arc::new(TestService::start().await);
    let database = service.database.clone();
    assert_eq!(service.user_with(1_500).await, 2);
    flood(&service, (1_000, 10, part), send).await;
    assert_eq!(service.balance_of(2).await, 500);
    Arc::into_inner(service).unwrap().stop().await;
    let service = Arc::new(TestService::start_on(database, &[]).await);
    flood(&service, (1_000, 2, part), send).await;
    assert_eq!(service.journal_rows(2).await, 1_001);
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_duplicates_in_bulks_a_thousand_are_changes() {
    check_duplicates(500, async |service: Arc<TestService>, keys: Vec<String>| {
        let changes: Vec<_> = keys.iter().map(|key| keyed(2, -1, key)).collect();
        apply(&service, &changes).await
    })
    .await;
}
