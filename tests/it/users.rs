//! Users, their history, and the route that uses the service's default approach.

use std::time::{Duration, Instant};

use plimsoll::approach::registry;
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{TestService, balance_body, error_body, insufficient, read};

const ID_RULE: &str = "The user id must be a whole number from 1 to 9223372036854775807";

async fn get(service: &TestService, path: &str) -> (u16, Value) {
    let (status, text) = read(service.send(Method::GET, path, None).await).await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn a_created_user_has_its_opening_balance_as_the_first_change() {
    let service = TestService::start().await;
    let response = service.send(Method::POST, "/users", Some(json!({ "balance": 10_000 }))).await;
    assert_eq!(response.headers()["location"], "/users/2");
    assert_eq!(read(response).await, (201, r#"{"id":2,"balance":10000}"#.to_owned()));
    let shown = service.send(Method::GET, "/users/2", None).await;
    let user = r#"{"id":2,"balance":10000,"held":0,"version":1}"#;
    assert_eq!(read(shown).await, (200, user.to_owned()));
    let (_, history) = get(&service, "/users/2/changes").await;
    assert_eq!(history["changes"][0]["amount"], 10_000);
    assert_eq!(history["changes"][0]["version"], 1);
    assert_eq!(history["changes"].as_array().unwrap().len(), 1);

    let empty = service.send(Method::POST, "/users", Some(json!({}))).await;
    assert_eq!(read(empty).await, (201, r#"{"id":3,"balance":0}"#.to_owned()));
    assert_eq!(get(&service, "/users/3/changes").await, (200, json!({"changes":[],"next":null})));
    service.stop().await;
}

#[tokio::test]
async fn the_seed_is_journaled_too() {
    let service = TestService::start().await;
    let (_, history) = get(&service, "/users/1/changes").await;
    assert_eq!(history["changes"][0]["balance"], 10_000);
    service.stop().await;
}

#[tokio::test]
async fn the_default_approach_serves_the_route_that_names_none() {
    for name in registry::names() {
        let service = TestService::start_with(&[("DEFAULT_APPROACH", name)]).await;
        let change = async |amount: i64| {
            let body = json!({ "amount": amount });
            read(service.send(Method::PATCH, "/users/1/balance", Some(body)).await).await
        };
        assert_eq!(change(-2).await, (200, balance_body(9_998)), "{name}");
        assert_eq!(change(-9_999).await, insufficient(), "{name}");
        let missing = service.send(Method::PATCH, "/users/1/balance", Some(json!({}))).await;
        assert_eq!(read(missing).await, (400, error_body("amount is required")));
        service.stop().await;
    }
}

#[tokio::test]
async fn every_approach_journals_what_it_accepts_and_nothing_else() {
    let service = TestService::start().await;
    for name in registry::names() {
        let user = service.user_with(100).await;
        for (amount, status) in [(-30, 200), (-71, 400), (0, 200), (5, 200), (i64::MAX, 400)] {
            assert_eq!(service.change(name, user, amount).await.0, status, "{name} {amount}");
        }
        let (_, history) = get(&service, &format!("/users/{user}/changes")).await;
        let rows: Vec<(i64, i64, i64)> = history["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| ["version", "amount", "balance"].map(|name| row[name].as_i64().unwrap()))
            .map(|[version, amount, balance]| (version, amount, balance))
            .collect();
        assert_eq!(rows, [(3, 5, 75), (2, -30, 70), (1, 100, 100)], "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn history_is_read_page_by_page_without_a_gap_or_a_repetition() {
    let service = TestService::start().await;
    for _ in 0..9 {
        assert_eq!(service.change("self", 1, -1).await.0, 200);
    }
    service.keyed("self", 1, -1, "the-key").await;
    let (_, page) = get(&service, "/users/1/changes?limit=4").await;
    assert_eq!(page["changes"][0]["key"], "the-key");
    assert!(page["changes"][1].get("key").is_none());
    let mut versions = Vec::new();
    let mut next = page["next"].clone();
    let mut pages = vec![page];
    while let Some(before) = next.as_i64() {
        let (_, page) = get(&service, &format!("/users/1/changes?limit=4&before={before}")).await;
        next = page["next"].clone();
        pages.push(page);
    }
    for page in &pages {
        for row in page["changes"].as_array().unwrap() {
            versions.push(row["version"].as_i64().unwrap());
            let created = row["createdAt"].as_str().unwrap();
            assert!(created.ends_with('Z') && created.len() == 27, "{created}");
        }
    }
    assert_eq!(versions, (1..=11).rev().collect::<Vec<_>>());
    assert_eq!(pages.len(), 3);
    service.stop().await;
}

#[tokio::test]
async fn any_page_of_a_million_changes_reads_a_handful_of_blocks() {
    let service = TestService::start().await;
    sqlx::query(
        "INSERT INTO balance_changes \
             (user_id, version, kind, amount, held_amount, balance, held, created_at) \
         SELECT 1, 1 + n, 'change', 1, 0, 10000 + n, 0, now() FROM generate_series(1, 999999) n",
    )
    .execute(&service.pool)
    .await
    .unwrap();
    sqlx::query(
        "UPDATE users SET version = 1000000, balance = 1009999, changed_at = now() WHERE id = 1",
    )
    .execute(&service.pool)
    .await
    .unwrap();
    // Counts rows read, not time, which varies on a busy machine.
    let plan: Value = sqlx::query_scalar(
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT version, amount, balance, key FROM balance_changes \
         WHERE user_id = 1 AND version < 500000 ORDER BY version DESC LIMIT 51",
    )
    .fetch_one(&service.pool)
    .await
    .unwrap();
    assert!(plan.to_string().contains("balance_changes_pkey"), "{plan}");
    assert!(!plan.to_string().contains("Sort"), "{plan}");
    let began = Instant::now();
    let (_, page) = get(&service, "/users/1/changes?before=500000").await;
    assert_eq!(page["changes"][0]["version"], 499_999);
    assert_eq!(page["next"], 499_950);
    // A page that sorts or skips through the million rows would take several times as long.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    service.stop().await;
}

#[tokio::test]
async fn bad_input_is_refused_with_a_sentence_of_its_own() {
    let service = TestService::start().await;
    let balance_rule = "balance must be a whole number from 0 to 9223372036854775807";
    for (method, path, body, sentence) in [
        (Method::POST, "/users", Some(json!({"balance": -1})), balance_rule),
        (Method::POST, "/users", Some(json!({"balance": "1"})), balance_rule),
        (Method::POST, "/users", Some(json!({"balance": 1.5})), balance_rule),
        (Method::GET, "/users/0", None, ID_RULE),
        (Method::GET, "/users/-1", None, ID_RULE),
        (Method::GET, "/users/abc", None, ID_RULE),
        (Method::GET, "/users/9223372036854775808", None, ID_RULE),
        (Method::GET, "/users/+1", None, ID_RULE),
        (Method::PATCH, "/users/0/balance", Some(json!({"amount": 1})), ID_RULE),
        (
            Method::GET,
            "/users/1/changes?limit=0",
            None,
            "limit must be a whole number from 1 to 500",
        ),
        (
            Method::GET,
            "/users/1/changes?before=-1",
            None,
            "before must be a whole number from 1 to 9223372036854775807",
        ),
    ] {
        let answer = read(service.send(method.clone(), path, body).await).await;
        assert_eq!(answer, (400, error_body(sentence)), "{method} {path}");
    }
    let unknown = (404, error_body("User not found"));
    for path in ["/users/77", "/users/77/changes"] {
        assert_eq!(read(service.send(Method::GET, path, None).await).await, unknown, "{path}");
    }
    service.stop().await;
}
