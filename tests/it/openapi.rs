//! The OpenAPI document agrees with the service and with itself.

pub(crate) mod answers;
mod contract;
mod events;
mod operations;
mod page;
mod recorder;

use plimsoll::approach::registry;
use plimsoll::http;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::json;

use crate::service::{TestService, read};
use contract::{Contract, Given, object};

pub(crate) fn contract() -> Contract {
    Contract(serde_json::to_value(http::document()).unwrap())
}

/// Tests the check itself: each of these documents is wrong about the same correct answer.
#[tokio::test]
async fn a_wrong_document_is_noticed() {
    let service = TestService::start().await;
    let response = service.send(Method::POST, "/users", Some(json!({ "balance": 5 }))).await;
    let headers: HeaderMap = response.headers().clone();
    let (status, body) = read(response).await;
    let given =
        Given { method: "post".into(), path: "/users".into(), status, headers, body: body.into() };
    let right = contract();
    right.check(&given).unwrap();

    let response = "/paths/~1users/post/responses/201";
    let mistakes = [
        ("", "/paths/~1users", json!({})),
        ("", "/paths/~1users/post/responses", json!({})),
        (response, "/content", json!({ "text/plain": {} })),
        (response, "/content/application~1json/schema", json!({ "type": "string" })),
        (response, "/content/application~1json/schema/$ref", json!("#/components/schemas/Error")),
        (response, "/headers", json!({})),
        (response, "/headers/Location/schema/type", json!("integer")),
        (response, "/headers/Location/schema/pattern", json!("^/accounts/")),
        (response, "/headers/Idempotent-Replayed/required", json!(true)),
        ("", "/components/schemas/User/required/0", json!("name")),
        ("", "/components/schemas/User/properties", json!({ "id": {} })),
        ("", "/components/schemas/Balance/type", json!("string")),
        ("", "/components/schemas/Balance/maximum", json!(4)),
    ];
    for (base, place, value) in mistakes {
        let mut wrong = right.clone();
        let (parent, member) = place.rsplit_once('/').unwrap();
        let parent = wrong.0.pointer_mut(&format!("{base}{parent}")).unwrap();
        match parent.as_array_mut() {
            Some(items) => items[0] = value,
            None => parent[member.replace("~1", "/")] = value,
        }
        assert!(wrong.check(&given).is_err(), "{place} goes unnoticed");
    }
    service.stop().await;
}

#[test]
fn every_example_is_as_its_schema_says() {
    let contract = contract();
    for (path, method, operation) in contract.operations() {
        for (status, response) in object(&operation["responses"]) {
            for content in object(&response["content"]).values() {
                let named =
                    content.get("examples").map(object).into_iter().flat_map(|all| all.values());
                for example in
                    content.get("example").into_iter().chain(named.map(|it| &it["value"]))
                {
                    let judged = contract.conforms(&content["schema"], example);
                    judged.unwrap_or_else(|no| panic!("{method} {path} {status}: {no}"));
                }
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            for example in parameter["schema"]["examples"].as_array().into_iter().flatten() {
                contract.conforms(&parameter["schema"], example).unwrap();
            }
        }
    }
    for (name, schema) in object(&contract.0["components"]["schemas"]) {
        for example in schema["examples"].as_array().into_iter().flatten() {
            contract.conforms(schema, example).unwrap_or_else(|no| panic!("{name}: {no}"));
        }
    }
}

#[test]
fn names_and_limits_are_those_of_the_code() {
    let contract = contract();
    let at = |place: &str| contract.0.pointer(place).cloned().unwrap();
    let approaches = at("/paths/~1approach~1{approach}~1balance/patch/parameters/0/schema/enum");
    assert_eq!(approaches, json!(registry::names().collect::<Vec<_>>()));
    let amount = at("/components/schemas/Amount");
    assert_eq!((&amount["minimum"], &amount["maximum"]), (&json!(-i64::MAX), &json!(i64::MAX)));
    assert_eq!(at("/components/schemas/Error/additionalProperties"), json!(false));
    let mut ids: Vec<_> =
        contract.operations().iter().map(|it| it.2["operationId"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), contract.operations().len(), "operationId must be unique");
}

/// The document lists the values of the enum types that the schema has.
#[tokio::test]
async fn kinds_and_states_are_those_of_the_schema() {
    let service = TestService::start().await;
    let contract = contract();
    for (place, name) in [("Kind", "change_kind"), ("HoldState", "hold_state")] {
        let documented = contract.0.pointer(&format!("/components/schemas/{place}/enum")).unwrap();
        let query = format!("SELECT enum_range(NULL::{name})::text[]");
        let values: Vec<String> =
            sqlx::query_scalar(&query).fetch_one(&service.pool).await.unwrap();
        assert_eq!(*documented, json!(values), "{name}");
    }
    service.stop().await;
}

#[test]
fn the_pattern_of_keys_is_the_rule_of_keys() {
    let contract = contract();
    let schema = contract.0.pointer("/paths/~1users/post/parameters/0/schema").unwrap();
    let (long, longest) = ("x".repeat(256), "x".repeat(255));
    let quoted = format!("\"{}\"", "\\\"".repeat(255));
    for key in ["a", "\"a\"", "a\"b", r#""a\\\"b""#, &longest, &quoted] {
        contract.conforms(schema, &json!(key)).unwrap();
    }
    for key in ["", "\"", "\"\"", "\"a", "a b", "\"a\"b", r#""a\n""#, "é", "a\n", &long] {
        assert!(contract.conforms(schema, &json!(key)).is_err(), "{key:?}");
    }
}
