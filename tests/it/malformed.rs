//! Strange and hostile requests over raw sockets: each is refused cleanly, or served exactly.
//!
//! After each of them the service answers the next client, and the balance is what the accepted changes
//! say.

mod cases;
mod pipelines;

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::cases::Wanted;
use crate::service::TestService;

/// Sends everything, and then nothing more. Returns all that comes back.
async fn exchange(service: &TestService, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
    let mut received = Vec::new();
    let exchange = async {
        // A request that is refused early may not be taken to its end.
        if stream.write_all(sent).await.is_ok() {
            let _ = stream.shutdown().await;
        }
        // A reset may follow the responses.
        let _ = stream.read_to_end(&mut received).await;
    };
    timeout(Duration::from_secs(20), exchange).await.expect("the service closes the connection");
    received
}

/// A response, without its headers.
struct Response {
    status: u16,
    body: String,
}

/// The responses of a connection. Each must be complete.
fn parse(mut bytes: &[u8]) -> Vec<Response> {
    let mut responses = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let head = str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
        bytes = &bytes[end + 4..];
        assert!(head.starts_with("http/1."), "{head}");
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let body = String::from_utf8(bytes[..length].to_vec()).unwrap();
        bytes = &bytes[length..];
        responses.push(Response { status, body });
    }
    responses
}

/// What is wrong with the responses to a case, if anything.
fn mistake(wanted: &Wanted, responses: &[Response]) -> Option<String> {
    let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
    let is_wanted = match wanted {
        Wanted::Statuses(wanted) => statuses == *wanted,
        Wanted::Anything => statuses.iter().all(|status| (200..500).contains(status)),
    };
    if !is_wanted {
        return Some(format!("{statuses:?}"));
    }
    let is_error = |text: &str| {
        let body: Value = serde_json::from_str(text).unwrap_or_default();
        body.as_object().is_some_and(|members| members.len() == 1 && members["error"].is_string())
    };
    let mut refusals = responses.iter().filter(|response| response.status >= 400);
    refusals.find(|refusal| !is_error(&refusal.body)).map(|refusal| refusal.body.clone())
}

/// The balances that were answered.
fn balances(responses: &[Response]) -> impl DoubleEndedIterator<Item = i64> + '_ {
    let balance = |body: &str| body.strip_prefix("{\"balance\":")?.strip_suffix('}')?.parse().ok();
    responses.iter().filter_map(move |response| balance(&response.body))
}

#[expect(clippy::print_stdout, reason = "the count of what was tried")]
#[tokio::test]
async fn every_malformed_request_is_refused_or_served_cleanly() {
    let service = TestService::start().await;
    let cases = cases::all();
    let (mut balance, mut rows, mut mistakes) = (10_000, service.journal_rows(1).await, Vec::new());
    for case in &cases {
        let responses = parse(&exchange(&service, &case.sent).await);
        mistakes.extend(mistake(&case.wanted, &responses).map(|found| (&case.name, found)));
        rows += i64::try_from(balances(&responses).count()).unwrap();
        balance = balances(&responses).next_back().unwrap_or(balance);
        let alive = exchange(&service, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(alive.starts_with(b"HTTP/1.1 200 OK\r\n"), "after {}", case.name);
        let found = (service.balance_of(1).await, service.journal_rows(1).await);
        assert_eq!(found, (balance, rows), "after {}", case.name);
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(balance < 10_000, "some were accepted");
    println!("{} malformed requests: all refused or served cleanly", cases.len());
    service.stop().await;
}
