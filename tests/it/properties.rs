//! Thousands of generated requests: no request causes a 5xx, and no journal row is written without a
//! success.

use plimsoll::approach::registry;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;

use crate::service::TestService;

#[derive(Clone, Debug)]
struct Generated {
    method: &'static str,
    path: String,
    content_type: Option<String>,
    key: Option<Vec<u8>>,
    body: Vec<u8>,
}

/// Numbers near every limit, and values that only look like numbers.
fn number() -> impl Strategy<Value = String> {
    let edges = [
        "0",
        "-0",
        "1",
        "-1",
        "2",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775807",
        "-9223372036854775808",
        "1e2",
        "1.0",
        "-0.0",
        "\"1\"",
        "null",
        "true",
        "[]",
        "{}",
        "18446744073709551616",
        "1e999",
        "01",
        "+1",
        "--1",
        "NaN",
    ];
    prop_oneof![
        3 => proptest::sample::select(edges.to_vec()).prop_map(str::to_owned),
        2 => (-20_i64..20).prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let member =
        (proptest::sample::select(vec!["userId", "amount", "balance", "userid", "x"]), number());
    let object = proptest::collection::vec(member, 0..4).prop_map(|members| {
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    let amount =
        prop_oneof![2 => (-9_i64..10).prop_map(|amount| amount.to_string()), 1 => number()];
    let change = (1_i64..4, amount).prop_map(|(user, amount)| {
        format!("{{\"userId\":{user},\"amount\":{amount}}}").into_bytes()
    });
    prop_oneof![
        8 => change,
        3 => object,
        1 => number().prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..64),
        1 => Just(vec![b'['; 3_000]),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let fixed = ["/users", "/approach/none/balance", "/approach//balance", "/"].map(String::from);
    let id = prop_oneof![number(), "[ -~]{0,8}"].prop_map(|id| id.replace(['/', '?', '#'], "-"));
    let query = prop_oneof![
        Just(String::new()),
        (proptest::sample::select(vec!["limit", "before", "x"]), number())
            .prop_map(|(name, value)| format!("?{name}={value}")),
    ];
    let approaches: Vec<&str> = registry::names().collect();
    prop_oneof![
        6 => proptest::sample::select(approaches)
            .prop_map(|name| format!("/approach/{name}/balance")),
        2 => proptest::sample::select(fixed.to_vec()),
        3 => (id, proptest::sample::select(vec!["", "/changes", "/balance"]), query)
            .prop_map(|(id, tail, query)| format!("/users/{id}{tail}{query}")),
    ]
}

fn request() -> impl Strategy<Value = Generated> {
    let method = proptest::sample::select(vec!["PATCH", "PATCH", "PATCH", "POST", "GET", "DELETE"]);
    let content_type = proptest::option::weighted(
        0.95,
        prop_oneof![9 => Just("application/json".to_owned()), 1 => "[!-~]{0,20}"],
    );
    // All header values without control characters, which no client library sends.
    let key_byte = prop_oneof![9 => 0x21_u8..0x7f, 1 => 0x80_u8..=0xff];
    let key = proptest::option::weighted(0.3, proptest::collection::vec(key_byte, 0..300));
    (method, path(), content_type, key, body()).prop_map(
        |(method, path, content_type, key, body)| Generated {
            method,
            path,
            content_type,
            key,
            body,
        },
    )
}

async fn send(service: &TestService, generated: &Generated) -> Option<(u16, bool)> {
    let method: Method = generated.method.parse().unwrap();
    let url = reqwest::Url::parse(&format!("{}{}", service.url, generated.path)).ok()?;
    let mut request = service.client.request(method, url).body(generated.body.clone());
    if let Some(content_type) = &generated.content_type {
        request = request.header("content-type", content_type);
    }
    if let Some(key) = &generated.key {
        request = request.header("idempotency-key", key.as_slice());
    }
    let response = request.send().await.expect("every request has an answer");
    let status = response.status().as_u16();
    let replayed = response.headers().contains_key("idempotent-replayed");
    let text = response.text().await.unwrap();
    if status >= 400 && generated.method != "HEAD" {
        let body: serde_json::Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {status} {text:?}: {generated:?}"));
        let members: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(members, ["error"], "{generated:?}");
    }
    Some((status, replayed))
}

async fn journal_rows(service: &TestService) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM balance_changes")
        .fetch_one(&service.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_there_is_no_5xx_and_no_journal_row_without_a_success() {
    const CASES: u32 = 4_000;
    let service = TestService::start().await;
    for _ in 0..2 {
        service.user_with(10).await;
    }
    // The same requests in every run, so that a failure can be repeated.
    let mut runner = TestRunner::new_with_rng(
        Config { failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let strategy = request();
    let (mut rows, mut accepted) = (journal_rows(&service).await, 0);
    for _ in 0..CASES {
        let generated = strategy.new_tree(&mut runner).unwrap().current();
        let Some((status, replayed)) = send(&service, &generated).await else { continue };
        assert!(status < 500, "{status}: {generated:?}");
        let now = journal_rows(&service).await;
        if now != rows {
            assert!(matches!(status, 200 | 201) && !replayed, "{status}: {generated:?}");
            assert_eq!(now, rows + 1, "{generated:?}");
            accepted += 1;
        }
        rows = now;
    }
    assert!(accepted > 100, "the generator hardly ever hits: {accepted}");
    service.stop().await;
}
