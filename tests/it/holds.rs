//! Reads of holds.

use reqwest::Method;
use serde_json::Value;
use sqlx::Executor;

use crate::planted::plant;
use crate::service::{TestService, error_body, read};

async fn get(service: &TestService, path: &str) -> (u16, String) {
    read(service.send(Method::GET, path, None).await).await
}

/// The numbers of the holds on a page, and the cursor of the next one.
async fn page(service: &TestService, query: &str) -> (Vec<i64>, Value) {
    let (status, text) = get(service, &format!("/users/101/holds{query}")).await;
    assert_eq!(status, 200, "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    let holds = page["holds"].as_array().unwrap();
    (holds.iter().map(|hold| hold["hold"].as_i64().unwrap()).collect(), page["next"].clone())
}

#[tokio::test]
async fn a_hold_is_shown_with_what_became_of_it() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    for (hold, shown) in [
        (
            3,
            r#"{"hold":3,"amount":400,"captured":250,"state":"captured","reference":"room 12","createdAt":"2025-01-31T12:00:03.000001Z","expiresAt":"2025-02-07T12:00:03.000001Z","resolvedAt":"2025-01-31T12:00:07.000001Z"}"#,
        ),
        (
            4,
            r#"{"hold":4,"amount":300,"captured":0,"state":"released","createdAt":"2025-01-31T12:00:04.000001Z","expiresAt":"2025-02-07T12:00:04.000001Z","resolvedAt":"2025-01-31T12:00:08.000001Z"}"#,
        ),
        (
            5,
            r#"{"hold":5,"amount":200,"captured":0,"state":"expired","createdAt":"2025-01-31T12:00:05.000001Z","expiresAt":"2025-01-31T12:00:09.000001Z","resolvedAt":"2025-01-31T12:00:09.000001Z"}"#,
        ),
        // Its time is over, but no entry of the journal says so yet.
        (
            6,
            r#"{"hold":6,"amount":100,"captured":0,"state":"open","reference":"room 13","createdAt":"2025-01-31T12:00:06.000001Z","expiresAt":"2025-02-07T12:00:06.000001Z"}"#,
        ),
    ] {
        let path = format!("/users/101/holds/{hold}");
        assert_eq!(get(&service, &path).await, (200, shown.to_owned()), "{hold}");
    }
    service.stop().await;
}

#[tokio::test]
async fn holds_are_listed_newest_first_with_the_user_of_the_same_snapshot() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let (_, open) = get(&service, "/users/101/holds/6").await;
    let list =
        format!(r#"{{"balance":9080,"held":100,"version":12,"holds":[{open}],"next":null}}"#);
    assert_eq!(get(&service, "/users/101/holds?state=open").await, (200, list));
    let none = r#"{"balance":10745,"held":0,"version":5,"holds":[],"next":null}"#;
    for query in ["", "?state=open", "?state=expired"] {
        let path = format!("/users/102/holds{query}");
        assert_eq!(get(&service, &path).await, (200, none.to_owned()), "{query}");
    }
    for (query, holds, next) in [
        ("", vec![10, 6, 5, 4, 3], Value::Null),
        ("?limit=5", vec![10, 6, 5, 4, 3], Value::Null),
        ("?limit=2", vec![10, 6], 6.into()),
        ("?limit=2&before=6", vec![5, 4], 4.into()),
        ("?limit=2&before=4", vec![3], Value::Null),
        ("?before=3", vec![], Value::Null),
        ("?state=captured", vec![10, 3], Value::Null),
        ("?state=captured&limit=1", vec![10], 10.into()),
        ("?state=captured&limit=1&before=10", vec![3], Value::Null),
        ("?state=released", vec![4], Value::Null),
        ("?state=expired", vec![5], Value::Null),
        ("?state=open&before=6", vec![], Value::Null),
    ] {
        assert_eq!(page(&service, query).await, (holds, next), "{query}");
    }
    service.stop().await;
}

#[tokio::test]
async fn unknown_holds_and_wrong_parameters_are_told_so() {
    let service = TestService::start().await;
    plant(&service.pool).await;
    let no_user = (404, error_body("User not found"));
    for path in ["/users/77/holds", "/users/77/holds?state=expired", "/users/77/holds/3"] {
        assert_eq!(get(&service, path).await, no_user, "{path}");
    }
    let no_hold = (404, error_body("Hold not found"));
    // Version 7 of the user is no hold, and the holds of others are not the user's.
    for path in ["/users/101/holds/7", "/users/102/holds/3"] {
        assert_eq!(get(&service, path).await, no_hold, "{path}");
    }
    let id_rule = "The user id must be a whole number from 1 to 9223372036854775807";
    let hold_rule = "The hold must be a whole number from 1 to 9223372036854775807";
    for (path, sentence) in [
        ("/users/none/holds", id_rule),
        ("/users/none/holds/3", id_rule),
        ("/users/101/holds/0", hold_rule),
        ("/users/101/holds/x", hold_rule),
        ("/users/101/holds/%ff", id_rule),
        ("/users/101/holds?state=closed", "state must be one of open, captured, released, expired"),
        ("/users/101/holds?state=", "state must be one of open, captured, released, expired"),
        ("/users/101/holds?limit=501", "limit must be a whole number from 1 to 500"),
        ("/users/101/holds?open", "Unknown parameter \"open\"; there are state, limit and before"),
    ] {
        assert_eq!(get(&service, path).await, (400, error_body(sentence)), "{path}");
    }
    service.stop().await;
}

/// 200,000 holds of user 101, of which every thousandth is open and the oldest has expired, and as many
/// of another user.
async fn plant_many(service: &TestService) {
    service
        .pool
        .execute(sqlx::raw_sql(
            "INSERT INTO users (id, balance, held, version, changed_at) \
                 SELECT id, 0, 200, 200000, now() FROM unnest(ARRAY[101, 102]) AS id; \
             INSERT INTO holds (user_id, hold, amount, captured, state, created_at, expires_at) \
                 SELECT id, n, 1, 0, CASE WHEN n % 1000 = 0 THEN 'open' WHEN n = 1 THEN 'expired' \
                     ELSE 'released' END::hold_state, now(), now() + interval '7 days' \
                 FROM unnest(ARRAY[101, 102]) AS id, generate_series(1, 200000) AS n; \
             ANALYZE",
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_page_of_many_holds_reads_few_of_them() {
    let service = TestService::start().await;
    plant_many(&service).await;
    let plan: Value = sqlx::query_scalar(
        "EXPLAIN (FORMAT JSON) SELECT * FROM holds \
         WHERE user_id = 101 AND hold < 200001 AND state = 'open' ORDER BY hold DESC LIMIT 51",
    )
    .fetch_one(&service.pool)
    .await
    .unwrap();
    let plan = plan.to_string();
    assert!(plan.contains("\"holds_open\"") && !plan.contains("Sort"), "{plan}");
    assert_eq!(page(&service, "?state=open&limit=3").await.0, [200_000, 199_000, 198_000]);
    assert_eq!(page(&service, "?limit=3&before=100000").await.0, [99_999, 99_998, 99_997]);
    // A state that no index has is found in steps of 5,000.
    let (mut found, mut before, mut pages) = (Vec::new(), 200_001, 0);
    loop {
        let (holds, next) = page(&service, &format!("?state=expired&before={before}")).await;
        found.extend(holds);
        pages += 1;
        match next.as_i64() {
            Some(next) => before = next,
            None => break,
        }
    }
    assert_eq!((found, pages), (vec![1], 41));
    sqlx::raw_sql("TRUNCATE users, balance_changes, holds").execute(&service.pool).await.unwrap();
    service.stop().await;
}
