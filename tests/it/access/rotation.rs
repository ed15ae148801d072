//! Tokens and certificate are replaced by SIGHUP, on the real executable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::certificate::Certificate;
use super::client::{ask, withdraw};
use crate::cluster::fresh_folder;
use crate::faults::until;
use crate::process::ServiceProcess;
use crate::service::balance_body;

const OLD: &str = "old-secret-c41d8cd98f00b204";
const NEW: &str = "new-secret-e9800998ecf8427e";
const LISTED: &str = "listed-secret-7d793037a076";
const WRONG: &str = "wrong-secret-68b329da9893e";

/// A service with all there is to rotate, that logs as much as it can.
struct Rotating {
    process: ServiceProcess,
    folder: PathBuf,
    certificate: Certificate,
    /// How much of the log was looked at.
    seen: usize,
}

impl Rotating {
    async fn start() -> Self {
        let folder = fresh_folder("rotation");
        let certificate = Certificate::in_folder(&folder);
        let tokens = folder.join("tokens");
        fs::write(&tokens, format!("# The shop\n\nshop:read+write:{OLD}\n")).unwrap();
        for file in [&tokens, &certificate.key_file] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let listed = format!("ops:metrics:{LISTED}");
        let [cert, key] = certificate.variables();
        let variables = [
            ("AUTH_TOKENS", &*listed),
            ("AUTH_TOKENS_FILE", tokens.to_str().unwrap()),
            ("RUST_LOG", "trace"),
            cert,
            key,
        ];
        let process = ServiceProcess::start_with("true", &variables).await;
        Self { process, folder, certificate, seen: 0 }
    }

    fn write_tokens(&self, content: &str) {
        fs::write(self.folder.join("tokens"), content).unwrap();
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.certificate.connect(self.process.address).await
    }

    /// Sends SIGHUP and waits for one line of the log for each of tokens and certificate.
    async fn reload(&mut self, tokens: &str, certificate: &str) {
        self.process.signal("-HUP");
        until(&format!("the log says {tokens:?} and {certificate:?}"), async || {
            let log = self.process.log();
            let new = &log[self.seen..];
            [tokens, certificate].iter().all(|line| new.contains(line))
        })
        .await;
        self.seen = self.process.log().len();
    }
}

const TOKENS_READ: &str = "the tokens were read again";
const TOKENS_KEPT: &str = "cannot read the tokens again: they stay as they were";
const CERTIFICATE_READ: &str = "the certificate was read again";
const CERTIFICATE_KEPT: &str = "cannot read the certificate again: it stays as it was";

#[tokio::test]
async fn sighup_replaces_tokens_and_certificate_while_connections_stay_open() {
    let mut service = Rotating::start().await;
    let mut stream = service.connect().await;
    assert_eq!(withdraw(&mut stream, OLD).await, (200, balance_body(9_998)));
    assert_eq!(withdraw(&mut stream, NEW).await.0, 401);

    // Both, while the clients change over.
    service.write_tokens(&format!("shop:read+write:{OLD}\nshop:read+write:{NEW}\n"));
    service.reload(TOKENS_READ, CERTIFICATE_READ).await;
    assert!(service.process.log().contains(r#"names="ops, shop""#), "{}", service.process.log());
    assert_eq!(withdraw(&mut stream, OLD).await, (200, balance_body(9_996)));
    assert_eq!(withdraw(&mut stream, NEW).await, (200, balance_body(9_994)));

    // Only the new one, on the same connection.
    service.write_tokens(&format!("shop:read+write:{NEW}"));
    service.reload(TOKENS_READ, CERTIFICATE_READ).await;
    assert_eq!(withdraw(&mut stream, OLD).await.0, 401);
    assert_eq!(withdraw(&mut stream, NEW).await, (200, balance_body(9_992)));
    assert_eq!(ask(&mut stream, "GET", "/metrics", LISTED).await.0, 200);

    // The next handshake sees the new certificate. The open connection goes on.
    let renewed = Certificate::in_folder(&service.folder);
    let old = std::mem::replace(&mut service.certificate, renewed);
    let still_old = old.connect(service.process.address).await;
    drop(still_old);
    service.reload(TOKENS_READ, CERTIFICATE_READ).await;
    let mut renewed = service.connect().await;
    assert_eq!(renewed.get_ref().1.peer_certificates().unwrap()[0], service.certificate.der);
    assert_eq!(withdraw(&mut renewed, NEW).await, (200, balance_body(9_990)));
    assert_eq!(withdraw(&mut stream, NEW).await, (200, balance_body(9_988)));

    assert_nothing_secret(&service.process.log());
    service.process.terminate();
    service.process.ended().await;
}

#[tokio::test]
async fn what_cannot_be_read_leaves_the_old_in_force() {
    let mut service = Rotating::start().await;
    let mut stream = service.connect().await;
    let mut balance = 10_000;
    for content in [
        "",
        "# Nobody\n",
        &format!("shop:read+write:{NEW}\nshop:reed:{WRONG}\n"),
        &format!("{WRONG}:\n"),
        &format!("ops:read:{LISTED}\n"),
        "shop:read:\u{e9}\n",
    ] {
        service.write_tokens(content);
        service.reload(TOKENS_KEPT, CERTIFICATE_READ).await;
        balance -= 2;
        assert_eq!(withdraw(&mut stream, OLD).await, (200, balance_body(balance)), "{content:?}");
        assert_eq!(withdraw(&mut stream, NEW).await.0, 401, "{content:?}");
    }
    fs::remove_file(service.folder.join("tokens")).unwrap();
    // In the middle of a renewal: the certificate is new, the key is not there yet.
    fs::remove_file(&service.certificate.key_file).unwrap();
    service.reload(TOKENS_KEPT, CERTIFICATE_KEPT).await;
    let key = fs::read(&Certificate::new().key_file).unwrap();
    fs::write(&service.certificate.key_file, key).unwrap();
    service.write_tokens(&format!("shop:read+write:{OLD}"));
    service.reload(TOKENS_READ, CERTIFICATE_KEPT).await;
    let mut other = service.connect().await;
    assert_eq!(withdraw(&mut other, OLD).await, (200, balance_body(balance - 2)));
    assert_nothing_secret(&service.process.log());
}

#[tokio::test]
async fn sighup_without_anything_to_reload_is_one_line() {
    let service = ServiceProcess::start("true").await;
    service.signal("-HUP");
    until("it says so", async || service.log().contains("nothing to reload")).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    assert_eq!(ask(&mut stream, "GET", "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn what_is_risky_is_warned_about() {
    let folder = fresh_folder("risky");
    let certificate = Certificate::in_folder(&folder);
    let tokens = folder.join("tokens");
    fs::write(&tokens, format!("shop:read:{OLD}\nops:metrics:short-one\n{NEW}\n")).unwrap();
    for (file, mode) in [(&tokens, 0o644), (&certificate.key_file, 0o604)] {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }
    let [cert, key] = certificate.variables();
    let file = ("AUTH_TOKENS_FILE", tokens.to_str().unwrap());
    let service = ServiceProcess::start_with("true", &[file, cert, key]).await;
    let log = service.log();
    for warning in [
        "AUTH_TOKENS_FILE: other users can read or change this file",
        "TLS_KEY_FILE: other users can read or change this file",
        "AUTH_TOKENS_FILE, line 2, has a token of fewer than 16 characters",
        "AUTH_TOKENS_FILE, line 3, has no name and no scopes: it opens all routes",
    ] {
        assert_eq!(log.matches(warning).count(), 1, "{warning}\n{log}");
    }
    assert!(!log.contains("TLS_CERT_FILE"), "{log}");
    assert!(!log.contains("short-one"));
    assert_nothing_secret(&log);
}

#[track_caller]
fn assert_nothing_secret(log: &str) {
    assert!(log.len() > 100, "there is a log");
    for secret in [OLD, NEW, LISTED, WRONG] {
        assert!(!log.contains(secret), "a token is in the log");
    }
    assert!(!log.contains("PRIVATE KEY"), "a key is in the log");
}
