//! Transfers and holds: exact, once, and journaled, whatever runs beside them.

mod expiry;
mod faults;
mod holds;
mod keys;
mod transfers;

use reqwest::Method;
use serde_json::{Value, json};

use crate::faults::lock_row;
use crate::service::{Answer, TestService, read};

/// A `POST`, with a key or without one. Returns also whether the answer is a replay.
pub(crate) async fn post(
    service: &TestService,
    path: &str,
    body: Value,
    key: Option<&str>,
) -> (Answer, bool) {
    let mut request = service
        .client
        .post(format!("{}{path}", service.url))
        .header("content-type", "application/json")
        .body(body.to_string());
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let response = request.send().await.expect("the service answers");
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|v| v == "true");
    (read(response).await, replayed)
}

pub(crate) async fn transfer(service: &TestService, from: i64, to: i64, amount: i64) -> Answer {
    let body = json!({ "from": from, "to": to, "amount": amount });
    post(service, "/transfers", body, None).await.0
}

/// Sets money aside for a week, and returns the number of the hold.
pub(crate) async fn reserve(service: &TestService, user: i64, amount: i64) -> i64 {
    let body = json!({ "amount": amount });
    let (status, text) = post(service, &format!("/users/{user}/holds"), body, None).await.0;
    assert_eq!(status, 201, "{text}");
    parse(&text)["hold"].as_i64().unwrap()
}

pub(crate) async fn capture(service: &TestService, user: i64, hold: i64, body: Value) -> Answer {
    post(service, &format!("/users/{user}/holds/{hold}/capture"), body, None).await.0
}

pub(crate) async fn release(service: &TestService, user: i64, hold: i64) -> Answer {
    post(service, &format!("/users/{user}/holds/{hold}/release"), json!({}), None).await.0
}

const LET_EXPIRE: &str = "\
    UPDATE holds SET expires_at = created_at + interval '1 microsecond' \
    WHERE user_id = $1 AND hold = $2 AND state = 'open'";

/// Puts the end of an open hold's time right behind its beginning. Returns whether it was open.
pub(crate) async fn let_expire(service: &TestService, user: i64, hold: i64) -> bool {
    // As everybody else who changes a hold, so that no operation decides on the time before.
    let mut lock = lock_row(service, user).await;
    let done = sqlx::query(LET_EXPIRE).bind(user).bind(hold).execute(&mut *lock).await.unwrap();
    lock.commit().await.unwrap();
    done.rows_affected() == 1
}

/// Balance and held money.
async fn funds(service: &TestService, user: i64) -> (i64, i64) {
    sqlx::query_as("SELECT balance, held FROM users WHERE id = $1")
        .bind(user)
        .fetch_one(&service.pool)
        .await
        .unwrap()
}

/// The state of a hold in the database.
pub(crate) async fn state(service: &TestService, user: i64, hold: i64) -> String {
    sqlx::query_scalar("SELECT state::text FROM holds WHERE user_id = $1 AND hold = $2")
        .bind(user)
        .bind(hold)
        .fetch_one(&service.pool)
        .await
        .unwrap()
}

/// A user's entries, oldest first: kind, amount, held amount, balance, held, hold, peer, key.
async fn entries(service: &TestService, user: i64) -> Vec<Entry> {
    sqlx::query_as(
        "SELECT version, kind::text, amount, held_amount, balance, held, hold, peer_user, \
         peer_version, key, reference, created_at::text FROM balance_changes \
         WHERE user_id = $1 ORDER BY version",
    )
    .bind(user)
    .fetch_all(&service.pool)
    .await
    .unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
struct Entry {
    version: i64,
    kind: String,
    amount: i64,
    held_amount: i64,
    balance: i64,
    held: i64,
    hold: Option<i64>,
    peer_user: Option<i64>,
    peer_version: Option<i64>,
    key: Option<String>,
    reference: Option<String>,
    created_at: String,
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The sum of everybody's balance and held money.
async fn total(service: &TestService) -> i64 {
    sqlx::query_scalar("SELECT sum(balance + held)::bigint FROM users")
        .fetch_one(&service.pool)
        .await
        .unwrap()
}

pub(crate) async fn get(service: &TestService, path: &str) -> Answer {
    read(service.send(Method::GET, path, None).await).await
}
