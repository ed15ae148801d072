//! The check of the database: its violations fail a burst whose answers are all exact.

use plimsoll::verify::verify;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

use super::BURST;
use super::faulty_service::{FaultyService, exact};
use super::running::{Tester, TesterOutput};
use crate::cluster;

/// A database in which user 1 has the starting balance of the burst, changed by the SQL in `fault`.
async fn books(fault: &str) -> PgConnectOptions {
    let options = cluster::shared().await.fresh_database().await;
    let mut connection = options.connect().await.unwrap();
    sqlx::migrate!("./migrations").run(&mut connection).await.unwrap();
    connection.execute(sqlx::raw_sql(cluster::DEFAULTS)).await.unwrap();
    connection
        .execute(
            "INSERT INTO users (id, balance, version) VALUES (1, 100, 1); \
             INSERT INTO balance_changes (user_id, version, amount, balance) VALUES (1, 1, 100, 100)",
        )
        .await
        .unwrap();
    assert!(verify(&mut connection).await.unwrap().is_clean());
    connection.execute(sqlx::raw_sql(fault)).await.unwrap();
    options
}

/// Runs a burst against a correct service that keeps its balance in memory.
async fn burst(database: &PgConnectOptions, arguments: &[&str]) -> TesterOutput {
    let service = FaultyService::start(100, exact).await;
    let url = database.to_url_lossy().to_string();
    let tester = Tester::against(&service).args(BURST).args(&["--database-url", &url]);
    tester.args(arguments).run().await
}

#[tokio::test]
async fn exact_answers_and_sound_books_pass() {
    let database = books("").await;
    let output = burst(&database, &[]).await;
    output.assert_code(0);
    output.assert_stdout_starts("PASS: every answer is exact, and so is the database: of 100");
}

#[tokio::test]
async fn exact_answers_and_unsound_books_fail() {
    let database = books("UPDATE balance_changes SET amount = 99").await;
    let output = burst(&database, &[]).await;
    output.assert_fails_with(&["1 × change that does not add up (in the database)"]);
    let place = "      user 1, version 1: 0 changed by 99 is 99, the journal has 100\n";
    assert!(output.stdout.contains(place), "{output}");

    let output = burst(&database, &["--json"]).await;
    output.assert_code(1);
    let document: Value = serde_json::from_str(&output.stdout).expect("one JSON document");
    assert_eq!(document["databaseChecked"], true);
    assert_eq!(document["approaches"][0]["violations"][0]["kind"], "stored-wrong-sum");
}

#[tokio::test]
async fn another_database_than_that_of_the_service_is_refused() {
    let database = books("UPDATE users SET balance = 99").await;
    burst(&database, &[]).await.assert_refused_to_run(2, "is not that of the service");
}

#[tokio::test]
async fn a_database_that_cannot_be_looked_at_is_no_pass() {
    let database = books("DROP TABLE balance_changes").await;
    let output = burst(&database, &[]).await;
    output.assert_code(3);
    output.assert_stdout_starts("COULD NOT RUN to the end");
}
