//! The headers that connect a request with the logs of others: `x-request-id` and `traceparent`.

use std::collections::HashSet;

use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::service::{TestService, stop_both, two_instances};
use crate::stream::client::HEAD;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The headers of the response to a request with these headers.
async fn headers_of(
    service: &TestService,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, HeaderMap) {
    let mut request = service.client.request(method, format!("{}{path}", service.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.headers().clone())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap());
    assert_eq!(values.next(), None, "{name} twice");
    value
}

#[tokio::test]
async fn every_response_has_the_id_of_its_request_or_a_new_one() {
    let service = TestService::start_with(&[("AUTH_TOKENS", "alpha")]).await;
    let mut made = HashSet::new();
    let token = ("authorization", "Bearer alpha");
    let json = ("content-type", "application/json");
    for (method, path, headers, status) in [
        (Method::GET, "/healthz", vec![], 200),
        (Method::GET, "/users/1", vec![token], 200),
        (Method::HEAD, "/users/1", vec![token], 200),
        (Method::GET, "/users/0", vec![token], 400),
        (Method::GET, "/users/1", vec![], 401),
        (Method::GET, "/nowhere", vec![], 404),
        (Method::PUT, "/users/1", vec![], 405),
        (Method::POST, "/users", vec![token], 415),
        (Method::POST, "/transfers", vec![token, json], 400),
    ] {
        let (seen, answer) = headers_of(&service, method.clone(), path, &headers).await;
        assert_eq!(seen, status, "{method} {path}");
        let id = text(&answer, "x-request-id").unwrap_or_else(|| panic!("{method} {path}"));
        assert!(made.insert(id.to_owned()), "{id} twice");
        assert_eq!(text(&answer, "traceparent"), None, "no trace is begun");

        let own = [("x-request-id", "my own/1"), ("x-request-id", "8e03978e~!")];
        for (sent, is_kept) in own.into_iter().zip([false, true]) {
            let all = [headers.clone(), vec![sent, ("traceparent", TRACEPARENT)]].concat();
            let (_, answer) = headers_of(&service, method.clone(), path, &all).await;
            let id = text(&answer, "x-request-id").unwrap();
            assert_eq!(id == sent.1, is_kept, "{method} {path}: {id}");
            assert!(made.insert(id.to_owned()) || is_kept, "{id} twice");
            let parent = text(&answer, "traceparent").unwrap();
            assert_eq!((&parent[..36], &parent[52..]), (&*format!("00-{TRACE}-"), "-01"));
            assert_ne!(parent, TRACEPARENT, "the service has an id of its own");
        }
    }
    let invalid = [("traceparent", "00-0-0-00")];
    let (_, answer) = headers_of(&service, Method::GET, "/healthz", &invalid).await;
    assert_eq!(text(&answer, "traceparent"), None);
    service.stop().await;
}

#[tokio::test]
async fn a_malformed_head_and_a_stream_have_an_id_as_well() {
    let service = TestService::start().await;
    let mut ids = HashSet::new();
    for sent in ["no head\r\n\r\n", "GET /healthz HTTP/1.1\r\nno colon\r\n\r\n"] {
        let mut socket = TcpStream::connect(service.service.address()).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        assert!(ids.insert(id.expect("an id").to_owned()), "{answer}");
    }
    let head = format!("{HEAD}x-request-id: of-a-stream\r\ntraceparent: {TRACEPARENT}\r\n\r\n");
    let mut socket = TcpStream::connect(service.service.address()).await.unwrap();
    socket.write_all(format!("{head}0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 400];
    let length = socket.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.contains("\r\nx-request-id: of-a-stream\r\n"), "{answer}");
    assert!(answer.contains(&format!("\r\ntraceparent: 00-{TRACE}-")), "{answer}");
    service.stop().await;
}

#[tokio::test]
async fn instances_make_different_ids() {
    let instances = two_instances(None).await;
    let mut ids = HashSet::new();
    for service in &instances {
        for _ in 0..10 {
            let (_, headers) = headers_of(service, Method::GET, "/healthz", &[]).await;
            ids.insert(text(&headers, "x-request-id").unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 20);
    stop_both(instances).await;
}
