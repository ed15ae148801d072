//! `/docs`: the service itself serves every file, and no number is one that JavaScript would round.

use reqwest::Method;
use serde_json::Value;

use super::contract;
use crate::service::{TestService, read};

/// The largest integer that JavaScript represents exactly.
const EXACT_MAX: u64 = 1 << 53;

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let service = TestService::start().await;
    let response = service.send(Method::GET, "/docs", None).await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    let (_, page) = read(response).await;
    let links: Vec<_> = page
        .split(['"'])
        .skip(1)
        .step_by(2)
        .filter(|value| value.contains(".js") || value.contains(".css"))
        .collect();
    assert!(links.contains(&"docs/page.js"), "{links:?}");
    for link in links {
        let file = service.send(Method::GET, &format!("/{link}"), None).await;
        assert_eq!(file.status(), 200, "{link}");
        // The document is no part of the page.
        if link != "openapi.json" {
            assert_eq!(file.headers()["x-content-type-options"], "nosniff", "{link}");
        }
    }
    let (_, script) = read(service.send(Method::GET, "/docs/page.js", None).await).await;
    assert!(!page.contains("//") && !script.contains("://"), "an address elsewhere");
    assert!(script.contains("validatorUrl: null"), "the validator is elsewhere");
    service.stop().await;
}

/// `page.js` shows these limits as text. Any other large number would be shown rounded.
#[test]
fn numbers_beyond_javascript_are_limits_only() {
    fn visit(name: &str, value: &Value) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| visit(name, value)),
            Value::Array(items) => items.iter().for_each(|item| visit(name, item)),
            Value::Number(number) => {
                let exact = number.as_i64().is_some_and(|n| n.unsigned_abs() <= EXACT_MAX);
                assert!(exact || matches!(name, "minimum" | "maximum"), "{name}: {number}");
            }
            _ => {}
        }
    }
    visit("", &contract().0);
}
