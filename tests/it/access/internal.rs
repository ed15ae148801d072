//! Metrics and docs on an address of their own.

use tokio::net::TcpStream;

use super::client::ask;
use crate::faults::until;
use crate::service::TestService;

const INTERNAL: (&str, &str) = ("INTERNAL_PORT", "0");

async fn status(service: &TestService, is_internal: bool, path: &str, token: &str) -> u16 {
    let internal = service.service.internal_address().expect("an internal address");
    let address = if is_internal { internal } else { service.service.address() };
    let request = service.client.get(format!("http://{address}{path}"));
    let request = match token {
        "" => request,
        _ => request.header("authorization", format!("Bearer {token}")),
    };
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn metrics_and_docs_are_on_the_internal_address_only_and_health_is_on_both() {
    let service = TestService::start_with(&[INTERNAL]).await;
    for (path, public, internal) in [
        ("/metrics", 404, 200),
        ("/docs", 404, 200),
        ("/docs/page.js", 404, 200),
        ("/openapi.json", 404, 200),
        ("/console", 200, 200),
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/users/1", 200, 404),
        ("/approach/self/balance", 405, 404),
    ] {
        assert_eq!(status(&service, false, path, "").await, public, "public {path}");
        assert_eq!(status(&service, true, path, "").await, internal, "internal {path}");
    }
    assert_eq!(service.change("batched", 1, -2).await.0, 200);
    let internal = service.service.internal_address().unwrap();
    let metrics = service.client.get(format!("http://{internal}/metrics")).send().await.unwrap();
    let text = metrics.text().await.unwrap();
    assert!(
        text.contains(r#"plimsoll_changes_total{approach="batched",outcome="accepted"} 1"#),
        "{text}"
    );
    let wrong = service.client.post(format!("http://{internal}/metrics")).send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    service.stop().await;
}

#[tokio::test]
async fn tokens_hold_on_the_internal_address_as_well() {
    let tokens = "a:read+write:may-change,b:metrics:may-scrape";
    let service = TestService::start_with(&[INTERNAL, ("AUTH_TOKENS", tokens)]).await;
    for (token, expected) in [("", 401), ("wrong", 401), ("may-change", 403), ("may-scrape", 200)] {
        assert_eq!(status(&service, true, "/metrics", token).await, expected, "{token}");
    }
    for path in ["/docs", "/openapi.json", "/healthz", "/readyz"] {
        assert_eq!(status(&service, true, path, "").await, 200, "{path}");
    }
    assert_eq!(status(&service, false, "/metrics", "may-scrape").await, 404);
    service.stop().await;
}

#[tokio::test]
async fn neither_address_takes_the_places_of_the_other() {
    let service = TestService::start_with(&[INTERNAL, ("MAX_CONNECTIONS", "2")]).await;
    let (public, internal) =
        (service.service.address(), service.service.internal_address().unwrap());
    // All public places are taken, by connections that stay: nobody else asks for a place there.
    let mut first = TcpStream::connect(public).await.unwrap();
    let mut second = TcpStream::connect(public).await.unwrap();
    assert_eq!(ask(&mut first, "GET", "/healthz", "").await.0, 200);
    assert_eq!(ask(&mut second, "GET", "/healthz", "").await.0, 200);
    // More than the internal places, each of which gets its answer.
    let mut scrapers = Vec::new();
    for _ in 0..40 {
        let mut scraper = TcpStream::connect(internal).await.unwrap();
        assert_eq!(ask(&mut scraper, "GET", "/healthz", "").await.0, 200);
        scrapers.push(scraper);
    }
    assert_eq!(ask(&mut first, "GET", "/users/1", "").await.0, 200);
    assert_eq!(ask(&mut second, "GET", "/users/1", "").await.0, 200);
    until("32 internal connections are left", async || {
        scrapers.iter().filter(|scraper| is_open(scraper)).count() == 32
    })
    .await;
    service.stop().await;
}

/// Whether the other side has not closed it. All of them are silent.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let read = stream.try_read(&mut byte);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
