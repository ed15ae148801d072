//! Tests `verify` on planted violations, beside writers, and as the real executable.

mod command;
mod operations;
mod planted;
mod writers;

use std::time::Duration;

use plimsoll::verify::{Kind, Report, verify};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep};

use crate::cluster;

/// A database with the schema, user 1 with 10000 and two more changes, and user 2 with nothing.
struct Books {
    options: PgConnectOptions,
    connection: PgConnection,
}

impl Books {
    async fn open() -> Self {
        let options = cluster::shared().await.fresh_database().await;
        let mut connection = PgConnection::connect_with(&options).await.expect("connects");
        sqlx::migrate!("./migrations").run(&mut connection).await.expect("migrates");
        let mut books = Self { options, connection };
        books.run(cluster::DEFAULTS).await;
        books
            .run(
                "TRUNCATE users, balance_changes, idempotency_keys, user_creation_keys; \
                 INSERT INTO users (id, balance, version) VALUES (1, 9990, 3), (2, 0, 0); \
                 INSERT INTO balance_changes (user_id, version, amount, balance, key) VALUES \
                     (1, 1, 10000, 10000, NULL), (1, 2, -20, 9980, 'b'), (1, 3, 10, 9990, 'c'); \
                 INSERT INTO idempotency_keys (user_id, key, fingerprint, answer) VALUES \
                     (1, 'b', 'change -20', '{9980}'), (1, 'c', 'change 10', '{9990}'), \
                     (1, 'read', 'change 0', '{9990}'), (2, 'refused', 'change -1', NULL); \
                 INSERT INTO user_creation_keys (key, balance, user_id) VALUES \
                     ('one', 10000, 1), ('two', 0, 2)",
            )
            .await;
        books
    }

    /// Runs statements that are separated by semicolons.
    async fn run(&mut self, statements: &str) {
        self.connection.execute(sqlx::raw_sql(statements)).await.expect("the statements run");
    }

    /// Drops every check constraint, so that a test can plant data that otherwise only a broken
    /// server or a superuser could write.
    async fn drop_constraints(&mut self) {
        let statements: Vec<String> = sqlx::query_scalar(
            "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) \
             FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace",
        )
        .fetch_all(&mut self.connection)
        .await
        .expect("finds the constraints");
        assert!(statements.len() >= 5, "{statements:?}");
        self.run(&statements.join(";")).await;
    }

    async fn verify(&mut self) -> Report {
        verify(&mut self.connection).await.expect("it can look")
    }

    /// Every violation as kind, user and version.
    async fn violations(&mut self) -> Vec<(Kind, i64, Option<i64>)> {
        let report = self.verify().await;
        let places = report.violations.iter().flat_map(|found| {
            assert_eq!(found.count, found.first.len() as u64, "few enough to be kept");
            found.first.iter().map(|violation| (found.kind, violation.user, violation.version))
        });
        places.collect()
    }

    async fn until_a_check_waits_for(&mut self, table: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let waits = "SELECT EXISTS (SELECT FROM pg_locks \
                     WHERE NOT granted AND relation = $1::regclass)";
        while !sqlx::query_scalar::<_, bool>(waits)
            .bind(table)
            .fetch_one(&mut self.connection)
            .await
            .expect("the locks can be read")
        {
            assert!(Instant::now() < deadline, "no check waits for {table}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
