//! Every operation of the document, with every kind of token.

use std::time::Duration;

use plimsoll::approach::registry;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::head;
use crate::openapi::answers::{SCOPES, scope_of};
use crate::openapi::contract;
use crate::service::{TestService, error_body, read};

const TOKENS: &str = "a:read:may-read,b:write:may-write,c:metrics:may-scrape";

/// The real paths of a path of the document.
fn real_paths(path: &str) -> Vec<String> {
    let path = path.replace("{id}", "1").replace("{hold}", "2").replace("{file}", "page.js");
    // Each approach has a route of its own.
    let names = registry::names().chain(["unknown"]);
    if path.contains("{approach}") {
        names.map(|name| path.replace("{approach}", name)).collect()
    } else {
        vec![path]
    }
}

async fn status(service: &TestService, method: &Method, path: &str, token: Option<&str>) -> u16 {
    let request = service.client.request(method.clone(), format!("{}{path}", service.url));
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    };
    request.send().await.expect("the service answers").status().as_u16()
}

/// Made from the document, so that no new route can forget its scope.
#[tokio::test]
async fn every_operation_opens_to_its_scope_only() {
    let service = TestService::start_with(&[("AUTH_TOKENS", TOKENS)]).await;
    let mut guarded = 0;
    for (path, method, operation) in contract().operations() {
        let scope = scope_of(&method, &path);
        let documented = scope.map(|scope| json!([{}, { "bearer": [scope] }]));
        let security = operation.get("security");
        assert_eq!(security, documented.as_ref(), "{method} {path}");
        assert_eq!(operation["responses"].get("403").is_some(), scope.is_some(), "{method} {path}");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        // HEAD is served wherever GET is.
        let head = (method == Method::GET).then_some(Method::HEAD);
        for method in [method].into_iter().chain(head) {
            for path in real_paths(&path) {
                let send = async |token| status(&service, &method, &path, token).await;
                let what = format!("{method} {path}");
                let Some(scope) = scope else {
                    assert!(![401, 403].contains(&send(None).await), "{what}");
                    continue;
                };
                guarded += 1;
                for wrong in
                    [None, Some("wrong"), Some("may-rea"), Some("a"), Some("a:read:may-read")]
                {
                    assert_eq!(send(wrong).await, 401, "{what} {wrong:?}");
                }
                for (held, token) in SCOPES {
                    let refused = send(Some(token)).await == 403;
                    assert_eq!(refused, held != scope, "{what} with {held}");
                    assert_ne!(send(Some(token)).await, 401, "{what} with {held}");
                }
            }
        }
    }
    eprintln!("{guarded} guarded combinations of method and path, each with 8 kinds of token");
    assert!(guarded > 20);
    service.stop().await;
}

#[tokio::test]
async fn a_token_may_have_several_scopes_and_errors_say_which_kind_they_are() {
    let variables = [("AUTH_TOKENS", "shop:read+write:s3cret-of-the-shop,ops:metrics:ops-token")];
    let service = TestService::start_with(&variables).await;
    let send = async |method: Method, path: &str, token: &str| {
        let request = service
            .client
            .request(method, format!("{}{path}", service.url))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(r#"{"amount":-2}"#);
        read(request.send().await.unwrap()).await
    };
    let (status, body) = send(Method::PATCH, "/users/1/balance", "s3cret-of-the-shop").await;
    assert_eq!((status, body.as_str()), (200, r#"{"balance":9998}"#));
    let (status, body) = send(Method::GET, "/users/1", "s3cret-of-the-shop").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["balance"], 9998);
    let forbidden = (403, error_body("Forbidden"));
    assert_eq!(send(Method::GET, "/metrics", "s3cret-of-the-shop").await, forbidden);
    assert_eq!(send(Method::PATCH, "/users/1/balance", "ops-token").await, forbidden);
    assert_eq!(send(Method::GET, "/metrics", "ops-token").await.0, 200);
    // Routes and their methods are not secret, and need no token.
    assert_eq!(send(Method::GET, "/nowhere", "wrong").await.0, 404);
    let wrong = service.send(Method::DELETE, "/users/1/balance", None).await;
    assert_eq!(wrong.status(), 405);
    let mut allowed: Vec<_> = wrong.headers()["allow"].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "PATCH"]);
    service.stop().await;
}

/// The bodies never come, so an answer means that none was awaited.
#[tokio::test]
async fn a_wrong_token_is_refused_before_the_body_is_read() {
    let service = TestService::start_with(&[("AUTH_TOKENS", TOKENS)]).await;
    let lines = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    let bulk = "content-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    for (path, rest) in [("/changes", lines), ("/changes", bulk), ("/users", bulk)] {
        for (token, status) in [("", "401"), ("wrong", "401"), ("may-read", "403")] {
            let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
            let head = head("POST", path, token);
            stream.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
            let mut answer = vec![0; "HTTP/1.1 401".len()];
            let reading = timeout(Duration::from_secs(10), stream.read_exact(&mut answer));
            reading.await.expect("an answer before the body").unwrap();
            assert!(answer.ends_with(status.as_bytes()), "{path} {token:?}");
        }
    }
    service.stop().await;
}
