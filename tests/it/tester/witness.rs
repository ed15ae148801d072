//! `witness`: the random load of every operation against real instances.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use sqlx::ConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::running::{Tester, TesterOutput};
use crate::service::{TestService, stop_both, two_instances};

/// Less than the final read of the least users is long, and more than their creation.
const FORWARDED_BYTES_MAX: usize = 8 * 1024;

async fn witness(urls: &[&str], arguments: &[&str]) -> TesterOutput {
    let urls =
        urls.iter().fold(Tester::bare().args(&["witness"]), |t, url| t.args(&["--url", url]));
    urls.args(arguments).log(Path::new("")).run().await
}

#[tokio::test]
async fn every_operation_is_acknowledged_and_refused_and_nothing_stays_unknown() {
    let instances = two_instances(None).await;
    let [one, two] = [&*instances[0].url, &*instances[1].url];
    let database = instances[0].database.to_url_lossy().to_string();
    let arguments = ["--requests", "2500", "--seed", "7", "--database-url", &database, "--json"];
    let output = witness(&[one, two], &arguments).await;
    output.assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).expect("one JSON document");
    assert_eq!(document["verdict"], "pass");
    assert_eq!(document["seed"], 7);
    assert_eq!(document["databaseChecked"], true);
    let operations = document["operations"].as_object().unwrap();
    assert_eq!(operations.len(), 8, "{document:#}");
    for (name, of) in operations {
        let count = |name: &str| of[name].as_u64().unwrap();
        for due in ["acknowledged", "refused"] {
            assert!(count(due) > 0, "no {name} was {due}: {document:#}");
        }
    }
    let all = |name: &str| document["all"][name].as_u64().unwrap();
    let by_key = all("appliedByKey") + all("refusedByKey");
    assert!(by_key > 0 && all("inJournal") + all("notInJournal") > 0, "{document:#}");
    assert_eq!(all("unknown"), by_key + all("inJournal") + all("notInJournal"), "{document:#}");
    assert_eq!(all("unresolved"), 0);
    assert!(document["reads"].as_u64().unwrap() > 100, "{document:#}");
    stop_both(instances).await;
}

#[tokio::test]
async fn the_report_says_what_was_proven_and_how_to_repeat_it() {
    let service = TestService::start().await;
    let arguments = ["--requests", "300", "--clients", "8", "--seed", "9"];
    let output = witness(&[&service.url], &arguments).await;
    output.assert_code(0);
    output.assert_stdout_starts("PASS: ");
    let again = format!("Seed 9: concurrency-tester witness --url {} ", service.url);
    for part in ["\nbulk-each ", "\nall ", " requests in ", &again] {
        assert!(output.stdout.contains(part), "{part} is missing: {output}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_service_that_goes_away_for_good_proves_nothing() {
    let service = TestService::start().await;
    let way = Way::to(&service).await;
    let arguments = ["--seconds", "1", "--patience", "2", "--users", "4", "--clients", "4"];
    let output = witness(&[&way.url], &arguments).await;
    output.assert_code(4);
    output.assert_stdout_starts("NOT PROVEN: the final read is incomplete: ");
    drop(way);
    service.stop().await;
}

#[tokio::test]
async fn instances_on_two_databases_are_not_tested() {
    let (one, two) = (TestService::start().await, TestService::start().await);
    let output = witness(&[&one.url, &two.url], &[]).await;
    output.assert_refused_to_run(3, "does not share the database");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_missing_token_and_a_misplaced_flag_are_bad_usage() {
    let tokens = [("AUTH_TOKENS", "clients:read+write:0123456789abcdef0123456789abcdef")];
    let service = TestService::start_with(&tokens).await;
    let output = witness(&[&service.url], &[]).await;
    output.assert_refused_to_run(2, "--token");
    let before = Tester::bare().args(&["--operations", "witness"]).log(Path::new(""));
    before.run().await.assert_refused_to_run(2, "--operations");
    service.stop().await;
}

/// A way to a service that breaks for good after some bytes.
struct Way {
    url: String,
    accepting: JoinHandle<()>,
}

impl Way {
    async fn to(service: &TestService) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let to = service.url.trim_start_matches("http://").to_owned();
        let accepting = tokio::spawn(async move {
            let bytes = Arc::new(AtomicUsize::new(0));
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (client, _) = accepted.unwrap();
                        connections.spawn(forward(client, to.clone(), Arc::clone(&bytes)));
                    }
                    Some(_) = connections.join_next() => {
                        if bytes.load(Ordering::Relaxed) > FORWARDED_BYTES_MAX {
                            // Drops the listener, and every connection.
                            return;
                        }
                    }
                }
            }
        });
        Self { url, accepting }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, to: String, bytes: Arc<AtomicUsize>) {
    let service = TcpStream::connect(to).await.unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    tokio::select! {
        () = copy(from_client, to_service, &bytes) => {}
        () = copy(from_service, to_client, &bytes) => {}
    }
}

/// Until one side closes, or too much is forwarded.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicUsize,
) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let so_far = bytes.fetch_add(count, Ordering::Relaxed) + count;
        if so_far > FORWARDED_BYTES_MAX || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
