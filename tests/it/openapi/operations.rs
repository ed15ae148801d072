//! The answers to transfers and to what happens with holds.

use futures_util::future::join_all;
use reqwest::header::HeaderMap;
use sqlx::Executor;

use super::recorder::{AnswerRecorder, Probe};
use crate::faults::{lock_row, until};
use crate::planted::plant_hold;
use crate::service::TestService;
use crate::standby::Standby;

const NAMES: [&str; 4] = ["transfer", "reserve", "capture", "release"];

/// A request for that operation of user 1.
fn probe(name: &str, user: i64, hold: i64) -> Probe {
    let (path, real_path, body) = match name {
        "transfer" => {
            let other = if user == 1 { 2 } else { 1 };
            let body = format!(r#"{{"from":{user},"to":{other},"amount":1}}"#);
            return Probe {
                method: "post",
                path: "/transfers",
                real_path: "/transfers".into(),
                body: Some(body),
            };
        }
        "reserve" => ("/users/{id}/holds", format!("/users/{user}/holds"), r#"{"amount":1}"#),
        "capture" => (
            "/users/{id}/holds/{hold}/capture",
            format!("/users/{user}/holds/{hold}/capture"),
            r#"{"amount":1}"#,
        ),
        _ => (
            "/users/{id}/holds/{hold}/release",
            format!("/users/{user}/holds/{hold}/release"),
            "{}",
        ),
    };
    Probe { method: "post", path, real_path, body: Some(body.into()) }
}

/// A new hold of a user.
async fn new_hold(service: &TestService, user: i64) -> i64 {
    let probe = probe("reserve", user, 0);
    let request = service.client.post(format!("{}{}", service.url, probe.real_path));
    let request = request.header("content-type", "application/json").body(probe.body.unwrap());
    let answer: serde_json::Value =
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    answer["hold"].as_i64().unwrap()
}

/// Every documented answer to these operations, except to wrong methods and to long heads.
pub(super) async fn answers(recorder: &mut AnswerRecorder) {
    ordinary(recorder).await;
    keys(recorder).await;
    without_a_token(recorder).await;
    half_a_body(recorder).await;
    held_rows(recorder).await;
    hanging_commits(recorder).await;
    broken_database(recorder).await;
}

async fn start_with(variables: &[(&str, &str)]) -> TestService {
    let service = TestService::start_with(variables).await;
    assert_eq!(service.user_with(5).await, 2);
    service
}

async fn ordinary(recorder: &mut AnswerRecorder) {
    let service = start_with(&[]).await;
    for name in NAMES {
        let hold = new_hold(&service, 1).await;
        let mut probe = probe(name, 1, hold);
        let success = if matches!(name, "transfer" | "reserve") { 201 } else { 200 };
        assert_eq!(recorder.send(&service, &probe).await.0, success, "{name}");
        if success == 200 {
            assert_eq!(recorder.send(&service, &probe).await.0, 409, "{name}");
        }
        let missing = self::probe(name, 999_999, 1);
        assert_eq!(recorder.send(&service, &missing).await.0, 404, "{name}");
        let plain = [("content-type", "text/plain")];
        assert_eq!(recorder.send_with(&service, &probe, &plain).await.0, 415, "{name}");
        probe.body = Some(" ".repeat(5_000));
        assert_eq!(recorder.send(&service, &probe).await.0, 413, "{name}");
        probe.body = Some(r#"{"amount":1.5}"#.into());
        assert_eq!(recorder.send(&service, &probe).await.0, 400, "{name}");
    }
    service.stop().await;
}

async fn keys(recorder: &mut AnswerRecorder) {
    let service = start_with(&[("KEY_WAIT_SECS", "1")]).await;
    for name in NAMES {
        let probe = probe(name, 1, new_hold(&service, 1).await);
        let key = [("idempotency-key", name)];
        let first = recorder.send_with(&service, &probe, &key).await;
        let replay = recorder.send_with(&service, &probe, &key).await;
        assert_eq!(replay, first, "{name}");
        let reused = match name {
            "release" => self::probe(name, 1, 999),
            _ => Probe { body: probe.body.clone().map(|b| b.replace(":1}", ":2}")), ..probe },
        };
        assert_eq!(recorder.send_with(&service, &reused, &key).await.0, 422, "{name}");
    }
    for name in ["transfer", "reserve"] {
        let probe = probe(name, 1, 0);
        let lock = lock_row(&service, 1).await;
        let (_, status) = tokio::join!(service.keyed("self", 1, -1, "running"), async {
            until("the first waits", async || crate::faults::waiting_for_locks(&service).await > 0)
                .await;
            let key = [("idempotency-key", "running")];
            let (status, _) = recorder.send_with(&service, &probe, &key).await;
            lock.rollback().await.unwrap();
            status
        });
        assert_eq!(status, 409, "{name}");
        sqlx::query("DELETE FROM idempotency_keys").execute(&service.pool).await.unwrap();
    }
    service.stop().await;
}

async fn without_a_token(recorder: &mut AnswerRecorder) {
    let service = TestService::start_with(&[("AUTH_TOKENS", "a:read+metrics:may-read")]).await;
    for name in NAMES {
        let probe = probe(name, 1, 2);
        assert_eq!(recorder.send(&service, &probe).await.0, 401, "{name}");
        let token = [("authorization", "Bearer may-read")];
        assert_eq!(recorder.send_with(&service, &probe, &token).await.0, 403, "{name}");
    }
    service.stop().await;
}

async fn half_a_body(recorder: &mut AnswerRecorder) {
    let service = start_with(&[("BODY_TIMEOUT_SECS", "1")]).await;
    for name in NAMES {
        assert_eq!(recorder.send_half(&service, &probe(name, 1, 2)).await.0, 408, "{name}");
    }
    service.stop().await;
}

/// All at once, since each of them waits for as long as it may.
async fn held_rows(recorder: &mut AnswerRecorder) {
    let service = start_with(&[]).await;
    let hold = new_hold(&service, 1).await;
    let requests = NAMES.map(|name| probe(name, 1, hold)).into();
    let lock = lock_row(&service, 1).await;
    for (probe, (status, headers, body)) in send_all(&service, requests).await {
        let (status, _) = recorder.check("post", probe.path, status, headers, body);
        assert_eq!(status, 503, "{}", probe.path);
    }
    lock.rollback().await.unwrap();
    service.stop().await;
}

/// The commits hang, since they wait for a standby that does not exist.
async fn hanging_commits(recorder: &mut AnswerRecorder) {
    let (service, mut standby) = Standby::start(&[("ANSWER_TIMEOUT_SECS", "1")]).await;
    let mut requests = Vec::new();
    for name in NAMES {
        // Users of their own: a batch whose commit hangs keeps its rows.
        let user = service.user_with(5).await;
        requests.push(probe(name, user, new_hold(&service, user).await));
    }
    standby.hang(&service).await;
    for (probe, (status, headers, body)) in send_all(&service, requests).await {
        let (status, _) = recorder.check("post", probe.path, status, headers, body);
        assert_eq!(status, 504, "{}", probe.path);
    }
    standby.go_on(&service).await;
    standby.close().await;
    service.stop().await;
}

async fn broken_database(recorder: &mut AnswerRecorder) {
    let service = start_with(&[]).await;
    plant_hold(&service.pool).await;
    for table in ["users", "holds"] {
        let rename = format!("ALTER TABLE {table} RENAME TO x_{table}");
        service.pool.execute(rename.as_str()).await.unwrap();
    }
    for name in NAMES {
        let (status, body) = recorder.send(&service, &probe(name, 1, 2)).await;
        assert_eq!((status, body.as_str()), (500, r#"{"error":"Internal server error"}"#));
    }
    for table in ["users", "holds"] {
        let rename = format!("ALTER TABLE x_{table} RENAME TO {table}");
        service.pool.execute(rename.as_str()).await.unwrap();
    }
    service.stop().await;
}

type Raw = (u16, HeaderMap, Vec<u8>);

/// Sends all of them at the same time.
async fn send_all(service: &TestService, probes: Vec<Probe>) -> Vec<(Probe, Raw)> {
    let sending = probes.into_iter().map(async |probe| {
        let request = service.client.post(format!("{}{}", service.url, probe.real_path));
        let body = probe.body.clone().unwrap();
        let request = request.header("content-type", "application/json").body(body);
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (probe, (status, headers, response.bytes().await.unwrap().to_vec()))
    });
    join_all(sending).await
}
