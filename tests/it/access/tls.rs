//! HTTPS: what clients see, and which certificates stop the start.

use plimsoll::config::Config;
use plimsoll::service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certificate::{Certificate, VERSIONS};
use super::client::{answer, ask, head, withdraw};
use crate::cluster::fresh_folder;
use crate::executable::run;
use crate::faults::{lock_row, until, waiting_for_locks};
use crate::service::{TestService, balance_body, error_body};

async fn start(certificate: &Certificate, variables: &[(&str, &str)]) -> TestService {
    TestService::start_with(&[&certificate.variables(), variables].concat()).await
}

#[tokio::test]
async fn both_versions_serve_requests_and_only_http_1_is_spoken() {
    let certificate = Certificate::new();
    let service = start(&certificate, &[("AUTH_TOKENS", "a:read+write:may-change")]).await;
    let address = service.service.address();
    let mut balance = 10_000;
    for version in VERSIONS {
        for protocols in [&["http/1.1"][..], &["h2", "http/1.1"], &[]] {
            let stream = certificate.connect_with(address, &[version], protocols).await;
            let mut stream = stream.expect("a handshake");
            let chosen = stream.get_ref().1.alpn_protocol();
            assert_eq!(chosen, (!protocols.is_empty()).then_some(&b"http/1.1"[..]));
            assert_eq!(withdraw(&mut stream, "").await, (401, error_body("Unauthorized")));
            balance -= 2;
            let changed = withdraw(&mut stream, "may-change").await;
            assert_eq!(changed, (200, balance_body(balance)));
        }
        let refused = certificate.connect_with(address, &[version], &["h2"]).await;
        assert!(refused.unwrap_err().to_string().contains("NoApplicationProtocol"));
    }
    service.stop().await;
}

#[tokio::test]
async fn the_internal_address_speaks_plain_http() {
    let certificate = Certificate::new();
    let service = start(&certificate, &[("INTERNAL_PORT", "0")]).await;
    let internal = service.service.internal_address().unwrap();
    let response = service.client.get(format!("http://{internal}/metrics")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    service.stop().await;
}

#[tokio::test]
async fn a_malformed_head_gets_its_answer_and_the_rest_is_drained() {
    let certificate = Certificate::new();
    let service = start(&certificate, &[("WORKERS", "1")]).await;
    let malformed = error_body("The request head is not valid HTTP/1.0 or HTTP/1.1");
    let too_large = error_body(
        "The request head must not be longer than 16384 bytes, nor have more than 100 headers",
    );
    let long = format!("GET / HTTP/1.1\r\nx-long: {}\r\n\r\n", "x".repeat(400_000));
    for (sent, expected) in [("no head\r\n\r\n", (400, malformed)), (&*long, (431, too_large))] {
        let (begin, rest) = sent.split_at(sent.len().min(20_000));
        let mut stream = certificate.connect(service.service.address()).await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await, expected);
        // An end without TLS's own farewell would be an error.
        assert_eq!(stream.read(&mut [0]).await.expect("a clean end"), 0);
        // By the time the only worker has answered this, it would have closed a connection that it
        // does not drain.
        let mut other = certificate.connect(service.service.address()).await;
        assert_eq!(ask(&mut other, "GET", "/healthz", "").await.0, 200);
        stream.write_all(rest.as_bytes()).await.expect("the connection is not reset");
    }
    service.stop().await;
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let certificate = Certificate::new();
    let service = start(&certificate, &[("WORKERS", "1")]).await;
    let rest = format!("x-long: {}\r\n\r\n", "x".repeat(400_000));
    for rest in ["\r\n", &rest] {
        let mut stream = TcpStream::connect(service.service.address()).await.unwrap();
        let (begin, end) = rest.split_at(rest.len().min(20_000));
        let begin = format!("{}{begin}", head("GET", "/healthz", ""));
        stream.write_all(begin.as_bytes()).await.unwrap();
        let expected = (400, error_body("This address speaks HTTPS only"));
        assert_eq!(answer(&mut stream).await, expected);
        assert_eq!(stream.read(&mut [0]).await.expect("no reset"), 0);
        // By the time the only worker has answered this, it would have closed a connection that it
        // does not drain.
        let mut other = certificate.connect(service.service.address()).await;
        assert_eq!(ask(&mut other, "GET", "/healthz", "").await.0, 200);
        stream.write_all(end.as_bytes()).await.expect("the connection is not reset");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_says_farewell() {
    let certificate = Certificate::new();
    let service = start(&certificate, &[]).await;
    let address = service.service.address();
    let mut idle = certificate.connect(address).await;
    assert_eq!(ask(&mut idle, "GET", "/healthz", "").await.0, 200);
    let mut busy = certificate.connect(address).await;
    let lock = lock_row(&service, 1).await;
    let changing = tokio::spawn(async move {
        let changed = withdraw(&mut busy, "").await;
        (changed, busy.read(&mut [0]).await)
    });
    until("the change waits", async || waiting_for_locks(&service).await > 0).await;
    let pool = service.pool.clone();
    let stopping = tokio::spawn(service.service.stop());
    // Closed at once, while the other one is still being answered.
    assert_eq!(idle.read(&mut [0]).await.expect("a clean end"), 0);
    lock.rollback().await.unwrap();
    let (changed, end) = changing.await.unwrap();
    assert_eq!(changed, (200, balance_body(9_998)));
    assert_eq!(end.expect("a clean end"), 0);
    stopping.await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn a_stream_of_changes_is_answered_while_it_is_sent() {
    let certificate = Certificate::new();
    let service = start(&certificate, &[]).await;
    let mut stream = certificate.connect(service.service.address()).await;
    let head = head("POST", "/changes", "");
    let kind = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{kind}").as_bytes()).await.unwrap();
    let line = "{\"userId\":1,\"amount\":-2}\n";
    let mut received = Vec::new();
    for count in 1..=3 {
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
        let result = balance_body(10_000 - 2 * count);
        while !String::from_utf8_lossy(&received).contains(&result) {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "{received:?}");
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    while !received.ends_with(b"0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "{received:?}");
    }
    service.stop().await;
}

/// The start ends before it needs a database.
#[tokio::test]
async fn a_certificate_that_cannot_work_stops_the_start_and_names_the_file() {
    let folder = fresh_folder("certificates");
    let [one, other] = ["one", "other"].map(|name| {
        std::fs::create_dir(folder.join(name)).unwrap();
        Certificate::in_folder(&folder.join(name))
    });
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [cert, key, other_key] =
        [&one.cert_file, &one.key_file, &other.key_file].map(|path| path.to_str().unwrap());
    let (empty, missing) = (file("empty", ""), format!("{}/missing", folder.display()));
    let secret = "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n";
    let broken = file("broken", secret);
    let no_end = file("no-end", "-----BEGIN PRIVATE KEY-----\nhunter2\n");
    let bad_begin = file("bad-begin", "-----BEGIN hunter2\n");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let nonsense = file("nonsense", nonsense);
    for (cert, key, start, culprit) in [
        (cert, other_key, "TLS_KEY_FILE", "is not the key of"),
        (&missing, key, "TLS_CERT_FILE", "cannot be read"),
        (cert, &missing, "TLS_KEY_FILE", "cannot be read"),
        (&empty, key, "TLS_CERT_FILE", "has no certificate in PEM"),
        (cert, &empty, "TLS_KEY_FILE", "has no private key in PEM without a passphrase"),
        (key, key, "TLS_CERT_FILE", "has no certificate in PEM"),
        (cert, cert, "TLS_KEY_FILE", "has no private key in PEM without a passphrase"),
        (cert, &broken, "TLS_KEY_FILE", "is not valid PEM"),
        (cert, &no_end, "TLS_KEY_FILE", "is not valid PEM"),
        (cert, &bad_begin, "TLS_KEY_FILE", "is not valid PEM"),
        (&nonsense, key, "TLS_CERT_FILE", "has an invalid certificate"),
    ] {
        let variables = [("TLS_CERT_FILE", cert), ("TLS_KEY_FILE", key), ("PORT", "0")];
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        let config = Config::from_lookup(&|name| find(name).map(|(_, value)| (*value).to_owned()));
        let started = Service::start(&config.unwrap()).await;
        let line = started.err().expect("it does not start").to_string();
        let path = if start == "TLS_KEY_FILE" { key } else { cert };
        let expected = format!("{start} ({path}) {culprit}");
        assert!(line.starts_with(&expected), "{line}\n{expected}");
        assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
    }
}

#[tokio::test]
async fn the_health_check_speaks_tls_and_prefers_the_internal_address() {
    let certificate = Certificate::new();
    let service = start(&certificate, &[("INTERNAL_PORT", "0")]).await;
    let (public, internal) =
        (service.service.address(), service.service.internal_address().unwrap());
    let (public, internal) = (public.port().to_string(), internal.port().to_string());
    // Its certificate is for another name, and may have been replaced on the disk.
    let replaced = Certificate::new();
    let folder = fresh_folder("healthy");
    let check = async |port: &str, more: &[(&str, &str)]| {
        let variables = [&replaced.variables(), &[("PORT", port)][..], more].concat();
        run(&folder, &["health"], &variables).await.status.code()
    };
    assert_eq!(check(&public, &[]).await, Some(0));
    // Nothing listens on port 1.
    assert_eq!(check("1", &[("INTERNAL_PORT", &internal)]).await, Some(0));
    assert_eq!(check("1", &[]).await, Some(1));
    service.stop().await;
}
