//! Sends requests, checks each answer against the document, and records which answers were given.

use std::collections::BTreeSet;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::contract::{Contract, Given};
use crate::service::TestService;

/// A valid request to one operation of the document.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) real_path: String,
    pub(crate) body: Option<String>,
}

/// A probe for each operation that needs the database. The user has a hold with the number 2.
pub(crate) fn probes(user: i64) -> Vec<Probe> {
    let of_user = |rest: &str| format!("/users/{user}{rest}");
    let probe = |method, path, real_path, body: Option<&str>| Probe {
        method,
        path,
        real_path,
        body: body.map(ToOwned::to_owned),
    };
    let change = format!(r#"{{"userId":{user},"amount":-1}}"#);
    let bulk = |mode| format!(r#"{{"mode":"{mode}","changes":[{change}]}}"#);
    let through = "/approach/self/balance".to_owned();
    vec![
        probe("patch", "/approach/{approach}/balance", through, Some(&change)),
        probe("patch", "/users/{id}/balance", of_user("/balance"), Some(r#"{"amount":-1}"#)),
        probe("post", "/users", "/users".to_owned(), Some("{}")),
        probe("post", "/changes", "/changes".to_owned(), Some(&bulk("each"))),
        probe("post", "/changes", "/changes".to_owned(), Some(&bulk("all"))),
        probe("get", "/users/{id}", of_user(""), None),
        probe("get", "/users/{id}/changes", of_user("/changes"), None),
        probe("get", "/console/users/{id}/balance", format!("/console/users/{user}/balance"), None),
        probe("get", "/users/{id}/balance", of_user("/balance?version=1"), None),
        probe("get", "/users/{id}/holds", of_user("/holds"), None),
        probe("get", "/users/{id}/holds/{hold}", of_user("/holds/2"), None),
    ]
}

impl Probe {
    /// The status of its success.
    pub(crate) fn success(&self) -> u16 {
        if self.path == "/users" && self.method == "post" { 201 } else { 200 }
    }

    /// Whether its changes are decided each for itself.
    pub(crate) fn is_each(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.contains("each"))
    }

    /// The same request with a body that is longer than any may be.
    pub(crate) fn with_long_body(mut self) -> Self {
        let length = if self.path == "/changes" { 1_048_577 } else { 5_000 };
        self.body = Some(" ".repeat(length));
        self
    }
}

/// Checks answers and records the ones given so far.
pub(crate) struct AnswerRecorder {
    pub(crate) contract: Contract,
    given: BTreeSet<(String, String, u16)>,
}

impl AnswerRecorder {
    pub(crate) fn new(contract: Contract) -> Self {
        Self { contract, given: BTreeSet::new() }
    }

    /// Sends a probe and checks the answer. Returns its status and body.
    pub(crate) async fn send(&mut self, service: &TestService, probe: &Probe) -> (u16, String) {
        self.send_with(service, probe, &[]).await
    }

    /// As [`Self::send`], with additional headers.
    pub(crate) async fn send_with(
        &mut self,
        service: &TestService,
        probe: &Probe,
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let request = request(service, probe, headers);
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap().to_vec();
        self.check(probe.method, probe.path, status, headers, body)
    }

    /// Sends a request whose body is never completed.
    pub(crate) async fn send_half(
        &mut self,
        service: &TestService,
        probe: &Probe,
    ) -> (u16, String) {
        let head = format!(
            "{} {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: 24\r\n\r\n{{",
            probe.method.to_uppercase(),
            probe.real_path
        );
        let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        self.check(probe.method, probe.path, status, headers, body.into())
    }

    /// Checks an answer against the document. Returns its status and body.
    pub(crate) fn check(
        &mut self,
        method: &str,
        path: &str,
        status: u16,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> (u16, String) {
        let text = String::from_utf8_lossy(&body).into_owned();
        let (method, path) = (method.to_owned(), path.to_owned());
        self.given.insert((method.clone(), path.clone(), status));
        let given = Given { method, path, status, headers, body };
        if let Err(problem) = self.contract.check(&given) {
            panic!("{problem}\n{text}");
        }
        (status, text)
    }

    /// The documented answers that were not given.
    pub(crate) fn missing(&self) -> Vec<(String, String, u16)> {
        self.contract.answers().difference(&self.given).cloned().collect()
    }
}

fn request(service: &TestService, probe: &Probe, headers: &[(&str, &str)]) -> RequestBuilder {
    let method = Method::from_bytes(probe.method.to_uppercase().as_bytes()).unwrap();
    let url = format!("{}{}", service.url, probe.real_path);
    let mut request = service.client.request(method, url);
    if let Some(body) = &probe.body {
        request = request.body(body.clone());
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
    }
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}
