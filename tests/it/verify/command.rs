//! The real executable: its verdict, its two report formats and its exit codes.

use std::path::Path;
use std::process::{Output, Stdio};

use plimsoll::verify::Kind;
use rustix::process::Signal;
use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::time::timeout;

use super::Books;
use crate::cluster::{fresh_folder, shared};
use crate::executable::{PATIENCE, error_line, plimsoll, run, send, serve, text};

async fn verify(options: &PgConnectOptions, arguments: &[&str]) -> Output {
    let url = options.to_url_lossy().to_string();
    let arguments = [&["verify"], arguments].concat();
    run(&fresh_folder("command"), &arguments, &[("DATABASE_URL", &url)]).await
}

#[tokio::test]
async fn sound_books_pass_with_exit_code_0() {
    let books = Books::open().await;
    let output = verify(&books.options, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = text(&output.stdout);
    assert!(report.starts_with("PASS: "), "{report}");
    for line in ["users            2", "changes          3", "sum of balances  9990"] {
        assert!(report.lines().any(|l| l == line), "{line}: {report}");
    }
}

#[tokio::test]
async fn a_violation_fails_with_exit_code_1_and_is_named() {
    let mut books = Books::open().await;
    books.run("UPDATE users SET balance = 9991 WHERE id = 1").await;
    let output = verify(&books.options, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = text(&output.stdout);
    let verdict = "FAIL: 1 × balance that its journal does not end with\n";
    assert!(report.starts_with(verdict), "{report}");
    let place = "    user 1, version 3: the journal ends with 9990, the balance is 9991\n";
    assert!(report.ends_with(place), "{report}");
}

#[tokio::test]
async fn the_json_report_says_the_same_as_the_library() {
    let mut books = Books::open().await;
    books
        .run("UPDATE users SET balance = 9223372036854775807; DELETE FROM user_creation_keys")
        .await;
    let output = verify(&books.options, &["--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let report = books.verify().await;
    assert_eq!(report.violations[0].kind, Kind::BalanceMismatch);
    let mut expected = serde_json::to_value(&report).unwrap();
    expected["snapshotMs"] = printed["snapshotMs"].clone();
    assert_eq!(printed, expected);
    assert_eq!(printed["verdict"], "fail");
    assert_eq!(printed["users"], 2);
    // Exceeds 64 bits, so it is a string in JSON.
    assert_eq!(printed["sumOfBalances"], "18446744073709551614");
    assert_eq!(printed["violations"][0]["kind"], "balance-mismatch");
    assert_eq!(printed["violations"][0]["count"], 2);
    assert_eq!(printed["violations"][0]["first"][0]["user"], 1);
    assert_eq!(printed["violations"][0]["first"][0]["version"], 3);
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_neither_a_pass_nor_a_fail() {
    let empty = shared().await.fresh_database().await;
    let output = verify(&empty, &[]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let expected =
        "plimsoll: the schema of the database is out of date: run `plimsoll migrate` first";
    assert!(error_line(&output).starts_with(expected), "{output:?}");
    assert!(output.stdout.is_empty());

    let nobody = empty.socket(fresh_folder("nobody"));
    let output = verify(&nobody, &["--json"]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        error_line(&output).starts_with("plimsoll: cannot connect to PostgreSQL"),
        "{output:?}"
    );
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn a_check_that_is_interrupted_says_so_and_is_no_pass() {
    let mut books = Books::open().await;
    books.run("BEGIN; LOCK TABLE balance_changes").await;
    let url = books.options.to_url_lossy().to_string();
    let variables = [("DATABASE_URL", &*url)];
    let mut command = plimsoll(&fresh_folder("interrupted"), &["verify"], &variables);
    let check = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    books.until_a_check_waits_for("balance_changes").await;
    send(&check, Signal::INT);
    let ended = timeout(PATIENCE, check.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert_eq!(error_line(&ended), "plimsoll: interrupted by SIGINT");
    assert!(ended.stdout.is_empty());
}

#[tokio::test]
async fn bad_usage_is_exit_code_2() {
    let folder = fresh_folder("usage");
    let url = ("DATABASE_URL", "mysql://x");
    for (arguments, variables) in [(&["verify", "--xml"][..], &[][..]), (&["verify"], &[url])] {
        let output = run(&folder, arguments, variables).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[tokio::test]
async fn migrate_prepares_a_database_and_may_be_repeated() {
    let empty = shared().await.fresh_database().await;
    let url = empty.to_url_lossy().to_string();
    for _ in 0..2 {
        let output = run(&fresh_folder("migrate"), &["migrate"], &[("DATABASE_URL", &url)]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let output = verify(&empty, &[]).await;
    assert!(text(&output.stdout).contains("users            1\n"), "{output:?}");
}

#[tokio::test]
async fn the_private_cluster_is_used_beside_its_service_and_started_where_there_is_none() {
    let folder = fresh_folder("private");
    let data_dir = folder.join("data");
    let postmaster = data_dir.join("postgres/postmaster.pid");
    let variables = [("DATA_DIR", data_dir.to_str().unwrap()), ("PORT", "0")];

    let nothing = run(&folder, &["verify"], &variables).await;
    assert_eq!(nothing.status.code(), Some(3), "{nothing:?}");
    assert!(error_line(&nothing).contains("there is no database in"), "{nothing:?}");
    assert!(!data_dir.exists(), "to look must not create");

    migrate_and_verify(&folder, &variables).await;
    assert!(!postmaster.exists(), "they stop the server that they started");

    let mut service = serve(&folder, &variables).await;
    migrate_and_verify(&folder, &variables).await;
    assert!(postmaster.exists(), "they leave the server to its service");
    send(&service, Signal::TERM);
    let ended = timeout(PATIENCE, service.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(0));
}

async fn migrate_and_verify(folder: &Path, variables: &[(&str, &str)]) {
    let output = run(folder, &["migrate"], variables).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = run(folder, &["verify"], variables).await;
    assert!(text(&output.stdout).contains("users            1\n"), "{output:?}");
}
