//! Every answer is documented, and every documented answer is given.

use reqwest::Method;
use sqlx::Executor;

use super::contract;
use super::contract::object;
use super::recorder::{AnswerRecorder, Probe, probes};
use super::{events, operations};
use crate::faults::{lock_row, signal_backends, until, waiting_for_locks};
use crate::planted::plant_hold;
use crate::service::TestService;

/// Uses several services. Each is brought into a state in which it gives some of the answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_documented_and_every_documented_answer_is_given() {
    let mut recorder = AnswerRecorder::new(contract());
    ordinary_answers(&mut recorder).await;
    answers_to_keys(&mut recorder).await;
    answers_to_wrong_methods(&mut recorder).await;
    answers_to_long_heads(&mut recorder).await;
    answers_without_a_token(&mut recorder).await;
    answers_to_half_a_body(&mut recorder).await;
    answers_without_a_free_connection(&mut recorder).await;
    answers_without_room_in_a_lane(&mut recorder).await;
    answers_of_a_stalled_database(&mut recorder).await;
    answers_lost_at_the_commit(&mut recorder).await;
    answers_of_a_broken_database(&mut recorder).await;
    operations::answers(&mut recorder).await;
    events::answers(&mut recorder).await;
    assert_eq!(recorder.missing(), []);
}

/// A service whose user 1 has hold 2.
async fn start_with(variables: &[(&str, &str)]) -> TestService {
    let service = TestService::start_with(variables).await;
    plant_hold(&service.pool).await;
    service
}

fn get(path: &'static str, real_path: &str) -> Probe {
    Probe { method: "get", path, real_path: real_path.to_owned(), body: None }
}

async fn ordinary_answers(recorder: &mut AnswerRecorder) {
    let service = start_with(&[]).await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/console",
        "/console/access",
        "/console/charts",
    ] {
        assert_eq!(recorder.send(&service, &get(path, path)).await.0, 200, "{path}");
    }
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "page.js"] {
        let probe = get("/docs/{file}", &format!("/docs/{file}"));
        assert_eq!(recorder.send(&service, &probe).await.0, 200, "{file}");
    }
    assert_eq!(recorder.send(&service, &get("/docs/{file}", "/docs/index.html")).await.0, 404);
    for (file, status) in [("console.css", 200), ("page.js", 200), ("page.html", 404)] {
        let probe = get("/console/files/{file}", &format!("/console/files/{file}"));
        assert_eq!(recorder.send(&service, &probe).await.0, status, "{file}");
    }
    let unknown = Probe { real_path: "/approach/none/balance".into(), ..probes(1).remove(0) };
    assert_eq!(recorder.send(&service, &unknown).await.0, 404);
    for mut probe in probes(1) {
        assert_eq!(recorder.send(&service, &probe).await.0, probe.success(), "{}", probe.path);
        if probe.body.is_some() {
            let plain = [("content-type", "text/plain")];
            assert_eq!(recorder.send_with(&service, &probe, &plain).await.0, 415, "{}", probe.path);
            let long = probe.clone().with_long_body();
            assert_eq!(recorder.send(&service, &long).await.0, 413, "{}", probe.path);
            probe.body = Some(r#"{"amount":1.5}"#.into());
        } else {
            probe.real_path = probe.real_path.replace("/1", "/none");
        }
        assert_eq!(recorder.send(&service, &probe).await.0, 400, "{}", probe.path);
    }
    for mut probe in probes(1).into_iter().filter(Probe::is_each) {
        let lines = [("content-type", "application/x-ndjson")];
        probe.body = Some("{\"userId\":1,\"amount\":-1}\n{}\n".into());
        let (status, results) = recorder.send_with(&service, &probe, &lines).await;
        assert_eq!((status, results.lines().count()), (200, 2), "{results}");
    }
    let has_user = |probe: &Probe| probe.path != "/users" && !probe.is_each();
    for probe in probes(999_999).into_iter().filter(has_user) {
        assert_eq!(recorder.send(&service, &probe).await.0, 404, "{}", probe.path);
    }
    service.stop().await;
}

async fn answers_to_keys(recorder: &mut AnswerRecorder) {
    let service = start_with(&[("KEY_WAIT_SECS", "1")]).await;
    for mut probe in probes(1).into_iter().filter(|probe| probe.body.is_some()) {
        if probe.is_each() {
            continue;
        }
        let key = [("idempotency-key", probe.path)];
        let first = recorder.send_with(&service, &probe, &key).await;
        let replay = recorder.send_with(&service, &probe, &key).await;
        assert_eq!(replay, first, "{}", probe.path);
        if probe.path != "/users" {
            let running = format!("running {}", probe.path).replace(' ', "-");
            assert_eq!(answer_while_running(recorder, &service, &probe, &running).await, 409);
        }
        probe.body = match probe.path {
            "/users" => Some(r#"{"balance":7}"#.into()),
            _ => probe.body.map(|body| body.replace("-1", "-7")),
        };
        assert_eq!(recorder.send_with(&service, &probe, &key).await.0, 422, "{}", probe.path);
    }
    service.stop().await;
}

/// The status of a change whose key is in use by another change that is still waiting.
async fn answer_while_running(
    recorder: &mut AnswerRecorder,
    service: &TestService,
    probe: &Probe,
    key: &str,
) -> u16 {
    let lock = lock_row(service, 1).await;
    let (_, status) = tokio::join!(service.keyed("self", 1, -1, key), async {
        until("the first waits", async || waiting_for_locks(service).await > 0).await;
        let (status, _) = recorder.send_with(service, probe, &[("idempotency-key", key)]).await;
        lock.rollback().await.unwrap();
        status
    });
    status
}

/// Also shows that the router has no undocumented method.
async fn answers_to_wrong_methods(recorder: &mut AnswerRecorder) {
    let service = start_with(&[]).await;
    for (path, methods) in object(&recorder.contract.0["paths"].clone()) {
        let real = path.replace("{approach}", "self").replace("{id}", "1").replace("{file}", "x");
        let real = real.replace("{hold}", "2");
        let mut documented: Vec<_> =
            object(methods).keys().map(|name| name.to_uppercase()).collect();
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            if documented.contains(&method.to_string()) {
                continue;
            }
            let response = service.send(method.clone(), &real, None).await;
            assert_eq!(response.status(), 405, "{method} {path}");
            let allowed = response.headers()["allow"].to_str().unwrap().to_owned();
            // The router allows HEAD wherever it allows GET.
            let mut allowed: Vec<_> = allowed.split(',').filter(|name| *name != "HEAD").collect();
            allowed.sort_unstable();
            documented.sort();
            assert_eq!(allowed, documented, "{path}");
            let (status, headers) = (405, response.headers().clone());
            let body: Vec<u8> = response.bytes().await.unwrap().into();
            for name in object(methods).keys() {
                recorder.check(name, path, status, headers.clone(), body.clone());
            }
        }
    }
    service.stop().await;
}

async fn answers_to_long_heads(recorder: &mut AnswerRecorder) {
    let service = start_with(&[]).await;
    let long = "x".repeat(16_384);
    for (path, method, _) in recorder.contract.operations() {
        let response = service
            .client
            .request(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), &service.url)
            .header("x-long", &long)
            .send()
            .await
            .unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        assert_eq!(status, 431, "{method} {path}");
        let body = response.bytes().await.unwrap().to_vec();
        recorder.check(&method, &path, status, headers, body);
    }
    service.stop().await;
}

async fn answers_without_a_token(recorder: &mut AnswerRecorder) {
    let tokens = "everything,a:read:may-read,b:write:may-write,c:metrics:may-scrape";
    let service = start_with(&[("AUTH_TOKENS", tokens)]).await;
    let mut guarded = probes(1);
    guarded.extend(["/metrics", "/console/charts"].map(|path| get(path, path)));
    for probe in &guarded {
        assert_eq!(recorder.send(&service, probe).await.0, 401, "{}", probe.path);
        let token = [("authorization", "Bearer everything")];
        assert!(recorder.send_with(&service, probe, &token).await.0 < 300, "{}", probe.path);
        for (scope, token) in SCOPES {
            let token = format!("Bearer {token}");
            let token = [("authorization", &*token)];
            let (status, _) = recorder.send_with(&service, probe, &token).await;
            let is_allowed = scope == scope_of(probe.method, probe.path).unwrap();
            assert_eq!(status != 403, is_allowed, "{scope}: {} {}", probe.method, probe.path);
        }
    }
    service.stop().await;
}

/// The scopes, each with a token that has no other one.
pub(crate) const SCOPES: [(&str, &str); 3] =
    [("read", "may-read"), ("write", "may-write"), ("metrics", "may-scrape")];

/// The scope that an operation needs, by the rule of the API.
pub(crate) fn scope_of(method: &str, path: &str) -> Option<&'static str> {
    let is_open = ["/healthz", "/readyz", "/openapi.json", "/console", "/console/access"];
    let is_open = is_open.contains(&path) || path.starts_with("/console/files/");
    match method {
        _ if is_open || path.starts_with("/docs") => None,
        _ if ["/metrics", "/console/charts"].contains(&path) => Some("metrics"),
        "get" => Some("read"),
        _ => Some("write"),
    }
}

async fn answers_to_half_a_body(recorder: &mut AnswerRecorder) {
    let service = start_with(&[("BODY_TIMEOUT_SECS", "1")]).await;
    for probe in probes(1).into_iter().filter(|probe| probe.body.is_some()) {
        assert_eq!(recorder.send_half(&service, &probe).await.0, 408, "{}", probe.path);
    }
    service.stop().await;
}

async fn answers_without_a_free_connection(recorder: &mut AnswerRecorder) {
    let variables = [
        ("POOL_SIZE", "1"),
        ("POOL_WAIT_SECS", "1"),
        ("ANSWER_TIMEOUT_SECS", "121"),
        ("LOCK_WAIT_MILLIS", "60000"),
        ("DEFAULT_APPROACH", "self"),
    ];
    let service = start_with(&variables).await;
    let lock = lock_row(&service, 1).await;
    let (first, ()) = tokio::join!(service.change("self", 1, -1), async {
        until("the only connection waits", async || waiting_for_locks(&service).await > 0).await;
        for probe in probes(1).into_iter().filter(|probe| probe.path != "/changes") {
            // Reads and the readiness check have sessions of their own.
            let expected = if probe.method == "get" { 200 } else { 503 };
            assert_eq!(recorder.send(&service, &probe).await.0, expected, "{}", probe.path);
        }
        assert_eq!(recorder.send(&service, &get("/readyz", "/readyz")).await.0, 200);
        lock.rollback().await.unwrap();
    });
    assert_eq!(first.0, 200);
    service.stop().await;
}

async fn answers_without_room_in_a_lane(recorder: &mut AnswerRecorder) {
    let service = TestService::start_with(&[("LANE_QUEUE", "1"), ("LANES", "1")]).await;
    for mut probe in probes(1).into_iter().filter(|probe| probe.path == "/changes") {
        let change = r#"{"userId":1,"amount":-1}"#;
        probe.body = Some(format!(r#"{{"changes":[{change},{change}]}}"#));
        assert_eq!(recorder.send(&service, &probe).await.0, 503);
    }
    service.stop().await;
}

async fn answers_of_a_stalled_database(recorder: &mut AnswerRecorder) {
    let variables = [("POOL_SIZE", "1"), ("POOL_WAIT_SECS", "1"), ("ANSWER_TIMEOUT_SECS", "1")];
    let service = start_with(&variables).await;
    // What is sent in several statements is known to be rolled back before the last of them.
    for probe in probes(1).into_iter().filter(|probe| probe.path != "/changes") {
        let expected = if probe.method == "get" { 503 } else { 504 };
        // 503 if the pool was still checking its connection: nothing was sent then.
        until("an answer that took too long", async || {
            signal_backends(&service, "-STOP").await;
            let (status, _) = recorder.send(&service, &probe).await;
            signal_backends(&service, "-CONT").await;
            until("the database answers", async || service.change("self", 1, 0).await.0 == 200)
                .await;
            status == expected
        })
        .await;
    }
    until("a check that took too long", async || {
        signal_backends(&service, "-STOP").await;
        let (status, _) = recorder.send(&service, &get("/readyz", "/readyz")).await;
        signal_backends(&service, "-CONT").await;
        status == 503
    })
    .await;
    service.stop().await;
}

/// The database ends each session that commits a journal row.
async fn answers_lost_at_the_commit(recorder: &mut AnswerRecorder) {
    let service = TestService::start().await;
    for sql in [
        "CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON balance_changes \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_session()",
    ] {
        service.pool.execute(sql).await.unwrap();
    }
    for probe in probes(1).into_iter().filter(|probe| probe.body.is_some() && !probe.is_each()) {
        if probe.path != "/users" {
            assert_eq!(recorder.send(&service, &probe).await.0, 504, "{}", probe.path);
        }
    }
    service.pool.execute("DROP TRIGGER ends ON balance_changes").await.unwrap();
    service.stop().await;
}

async fn answers_of_a_broken_database(recorder: &mut AnswerRecorder) {
    let service = start_with(&[]).await;
    for table in ["users", "balance_changes"] {
        service
            .pool
            .execute(format!("ALTER TABLE {table} RENAME TO x_{table}").as_str())
            .await
            .unwrap();
    }
    for probe in probes(1).into_iter().filter(|probe| !probe.is_each()) {
        let (status, body) = recorder.send(&service, &probe).await;
        assert_eq!((status, body.as_str()), (500, r#"{"error":"Internal server error"}"#));
    }
    for table in ["users", "balance_changes"] {
        service
            .pool
            .execute(format!("ALTER TABLE x_{table} RENAME TO {table}").as_str())
            .await
            .unwrap();
    }
    service.stop().await;
}
