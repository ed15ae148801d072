//! A database that the version before made keeps all of its data, and its keys replay.

use std::borrow::Cow;
use std::time::Duration;

use plimsoll::approach::registry;
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection};

use crate::cluster;
use crate::service::{Answer, TestService, balance_body, error_body, insufficient, read};

const USERS: i64 = 100_000;

/// What the version before this one sent for a change with a key, through `self`.
const CHANGE_OF_BEFORE: &str = r"
WITH prior AS MATERIALIZED (
    SELECT amount, balance FROM idempotency_keys WHERE user_id = $2 AND key = $3
), changed AS (
    UPDATE users SET balance = balance + $1, version = version + 1
    WHERE id = $2 AND balance + $1 >= 0 AND NOT EXISTS (SELECT FROM prior)
    RETURNING version, balance
), decided AS (
    SELECT balance FROM changed
    UNION ALL
    SELECT NULL FROM users WHERE id = $2
        AND NOT EXISTS (SELECT FROM changed) AND NOT EXISTS (SELECT FROM prior)
), journaled AS (
    INSERT INTO balance_changes (user_id, version, amount, balance, key)
    SELECT $2, version, $1, balance, $3 FROM changed
), kept AS (
    INSERT INTO idempotency_keys (user_id, key, amount, balance)
    SELECT $2, $3, $1, balance FROM decided
    RETURNING user_id
)
SELECT balance, $1, false FROM decided
UNION ALL
SELECT balance, amount, true FROM prior";

/// And for a user, then one accepted and one refused change of it, with a key each; for all users at
/// once. Every seventh accepted change was waiting for its row, so its time is before that of the
/// opening.
const USERS_OF_BEFORE: &str = r"
INSERT INTO users (id, balance, version) SELECT n, 90, 2 FROM generate_series(2, 100000) AS n;
INSERT INTO balance_changes (user_id, version, amount, balance, created_at, key)
SELECT n, 1, 100, 100, now() - interval '1 hour', 'made' || n FROM generate_series(2, 100000) AS n;
INSERT INTO balance_changes (user_id, version, amount, balance, created_at, key)
SELECT n, 2, -10, 90,
       now() - CASE WHEN n % 7 = 0 THEN interval '2 hours' ELSE interval '1 minute' END, 'a' || n
FROM generate_series(2, 100000) AS n;
INSERT INTO user_creation_keys (key, balance, user_id)
SELECT 'made' || n, 100, n FROM generate_series(2, 100000) AS n;
INSERT INTO idempotency_keys (user_id, key, amount, balance)
SELECT n, 'a' || n, -10, 90 FROM generate_series(2, 100000) AS n;
INSERT INTO idempotency_keys (user_id, key, amount, balance)
SELECT n, 'r' || n, -1000, NULL FROM generate_series(2, 100000, 2) AS n;
-- A clock that ran ahead.
UPDATE balance_changes SET created_at = now() + interval '1 hour'
WHERE user_id = 5 AND version = 2";

/// A database with the migrations up to this one.
pub(crate) async fn migrated_to(version: i64) -> (PgConnectOptions, PgConnection) {
    let options = cluster::shared().await.fresh_database().await;
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let all = sqlx::migrate!("./migrations");
    let some: Vec<_> = all.iter().filter(|one| one.version <= version).cloned().collect();
    assert_eq!(some.last().unwrap().version, version);
    let before = Migrator { migrations: Cow::Owned(some), ..all };
    before.run(&mut connection).await.unwrap();
    (options, connection)
}

/// The schema and the data of the version before transfers and holds, and before references.
async fn database_of_before() -> (PgConnectOptions, PgConnection) {
    let (options, mut connection) = migrated_to(2).await;
    connection
        .execute(
            "WITH created AS (INSERT INTO users (id, balance, version) VALUES (1, 10000, 1)) \
             INSERT INTO balance_changes (user_id, version, amount, balance) \
             VALUES (1, 1, 10000, 10000)",
        )
        .await
        .unwrap();
    connection.execute(sqlx::raw_sql(USERS_OF_BEFORE)).await.unwrap();
    for (amount, key) in [(-2_i64, "first"), (-20_000, "refused"), (5, "second")] {
        let change = sqlx::query(CHANGE_OF_BEFORE).bind(amount).bind(1_i64).bind(key);
        change.execute(&mut connection).await.unwrap();
    }
    // A change of zero only stored what it read.
    connection
        .execute("INSERT INTO idempotency_keys (user_id, key, amount, balance) VALUES (1, 'read', 0, 10003)")
        .await
        .unwrap();
    (options, connection)
}

/// Everything that must be the same before and after, in one text.
async fn digest(connection: &mut PgConnection) -> String {
    let sql = r"
SELECT concat_ws(' ',
    (SELECT md5(string_agg(u::text, ',' ORDER BY id))
     FROM (SELECT id, balance, version, created_at FROM users) AS u),
    (SELECT md5(string_agg(c::text, ',' ORDER BY user_id, version))
     FROM (SELECT user_id, version, amount, balance, key,
                  CASE WHEN user_id % 7 <> 0 THEN created_at END AS created_at
           FROM balance_changes) AS c),
    (SELECT md5(string_agg(k::text, ',' ORDER BY user_id, key))
     FROM (SELECT user_id, key, created_at FROM idempotency_keys) AS k),
    (SELECT md5(string_agg(k::text, ',' ORDER BY key)) FROM user_creation_keys AS k))";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn counted(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn created(service: &TestService, balance: i64, key: &str) -> Answer {
    let request = service
        .client
        .post(format!("{}/users", service.url))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(json!({ "balance": balance }).to_string());
    read(request.send().await.unwrap()).await
}

/// The times of a user's journal, oldest first.
async fn times(service: &TestService, user: i64) -> Vec<String> {
    let path = format!("/users/{user}/changes");
    let (status, text) = read(service.send(reqwest::Method::GET, &path, None).await).await;
    assert_eq!(status, 200, "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    let rows = page["changes"].as_array().unwrap().iter().rev();
    rows.map(|row| row["createdAt"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_the_version_before_is_upgraded_with_all_its_data() {
    let (options, mut connection) = database_of_before().await;
    let before = digest(&mut connection).await;
    let backwards = "SELECT count(*) FROM balance_changes AS c JOIN balance_changes AS p \
                     ON p.user_id = c.user_id AND p.version = c.version - 1 \
                     WHERE c.created_at < p.created_at";
    assert_eq!(counted(&mut connection, backwards).await, USERS / 7);

    // The service itself migrates, as every start does; and `stop` verifies.
    let service = TestService::start_on(options, &[]).await;
    assert_eq!(digest(&mut connection).await, before);
    assert_eq!(counted(&mut connection, backwards).await, 0);
    // No time but these was touched, and these are now those of their predecessors.
    let raised = "SELECT count(*) FROM balance_changes AS c JOIN balance_changes AS p \
                  ON p.user_id = c.user_id AND p.version = c.version - 1 \
                  WHERE c.created_at = p.created_at AND c.user_id % 7 = 0";
    assert_eq!(counted(&mut connection, raised).await, USERS / 7);
    let ahead = "SELECT count(*) FROM users AS u JOIN balance_changes AS c \
                 ON c.user_id = u.id AND c.version = u.version \
                 WHERE u.id = 5 AND u.changed_at = c.created_at";
    assert_eq!(counted(&mut connection, ahead).await, 1, "the next change is stamped after it");
    service.assert_verified().await;

    // Accepted, refused and read: each key replays the bytes of its first answer, through whatever
    // approach, and belongs to its first request.
    for name in registry::names() {
        let old = [
            (1, -2, "first", (200, balance_body(9_998))),
            (1, -20_000, "refused", insufficient()),
            (1, 5, "second", (200, balance_body(10_003))),
            (1, 0, "read", (200, balance_body(10_003))),
            (77_777, -10, "a77777", (200, balance_body(90))),
            (88_888, -1_000, "r88888", insufficient()),
        ];
        for (user, amount, key, answer) in old {
            let replayed = service.keyed(name, user, amount, key).await;
            assert_eq!(replayed, (answer, true), "{name}, {key}");
            let (other, _) = service.keyed(name, user, amount + 1, key).await;
            let sentence = "The Idempotency-Key was used before with another request";
            assert_eq!(other, (422, error_body(sentence)), "{name}, {key}");
        }
    }
    let user = json!({ "id": 44_444, "balance": 100 }).to_string();
    assert_eq!(created(&service, 100, "made44444").await, (201, user));

    // Changes go on where they stopped.
    let mut left = 90;
    for name in registry::names() {
        left -= 7;
        assert_eq!(service.change(name, 7, -7).await, (200, balance_body(left)), "{name}");
        assert_eq!(service.change(name, 7, -1_000).await, insufficient(), "{name}");
        assert_eq!(service.change(name, 5, 1).await.0, 200, "{name}");
    }
    for user in [5, 7] {
        let times = times(&service, user).await;
        assert_eq!(times.len(), 7);
        assert!(times.is_sorted(), "{times:?}");
    }
    service.stop().await;
}

/// What the version with migration 3 wrote: users, entries with references, and keys.
const ROWS_OF_3: &str = r"
INSERT INTO users (id, balance, held, version, changed_at)
SELECT n, 93, 0, 3, now() FROM generate_series(1, 1000) AS n;
INSERT INTO balance_changes
       (user_id, version, kind, amount, held_amount, balance, held, created_at, key, reference)
SELECT n, v, 'change', CASE v WHEN 1 THEN 100 WHEN 2 THEN -10 ELSE 3 END, 0,
       CASE v WHEN 1 THEN 100 WHEN 2 THEN 90 ELSE 93 END, 0, now() - interval '1 hour',
       CASE v WHEN 2 THEN 'a' || n END, CASE v WHEN 2 THEN 'rent ' || n END
FROM generate_series(1, 1000) AS n, generate_series(1, 3) AS v;
INSERT INTO idempotency_keys (user_id, key, fingerprint, answer)
SELECT n, 'a' || n, 'change -10 rent ' || n, ARRAY[90] FROM generate_series(1, 1000) AS n;
INSERT INTO idempotency_keys (user_id, key, fingerprint, answer)
SELECT n, 'r' || n, 'change -1000', NULL FROM generate_series(1, 1000) AS n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_holds_is_upgraded_with_all_its_data() {
    let (options, mut connection) = migrated_to(3).await;
    connection.execute(sqlx::raw_sql(ROWS_OF_3)).await.unwrap();
    let all = "SELECT concat_ws(' ', \
        (SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users AS u), \
        (SELECT md5(string_agg(c::text, ',' ORDER BY user_id, version)) \
         FROM balance_changes AS c), \
        (SELECT md5(string_agg(k::text, ',' ORDER BY user_id, key)) FROM idempotency_keys AS k))";
    let before: String = sqlx::query_scalar(all).fetch_one(&mut connection).await.unwrap();
    let service = TestService::start_on(options, &[]).await;
    let after: String = sqlx::query_scalar(all).fetch_one(&mut connection).await.unwrap();
    assert_eq!(after, before);
    service.assert_verified().await;
    for name in registry::names() {
        let refused = service.keyed(name, 77, -1_000, "r77").await;
        assert_eq!(refused, (insufficient(), true), "{name}");
        let reused = service.keyed(name, 77, -10, "a77").await.0.0;
        assert_eq!(reused, 422, "{name}: the reference is missing");
        assert_eq!(service.change(name, 77, -1).await.0, 200, "{name}");
    }
    let body = json!({ "from": 77, "to": 78, "amount": 50 });
    let paid = service.send(reqwest::Method::POST, "/transfers", Some(body)).await;
    assert_eq!(paid.status(), 201);
    let hold =
        service.send(reqwest::Method::POST, "/users/77/holds", Some(json!({ "amount": 38 })));
    assert_eq!(read(hold.await).await.0, 201);
    assert_eq!(service.balance_of(77).await, 0);
    service.stop().await;
}

/// Old and new do not share a database: what the old version would write is refused as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_can_not_write_after_the_upgrade() {
    let service = TestService::start().await;
    let mut connection = service.pool.acquire().await.unwrap();
    for (sql, code) in [
        (CHANGE_OF_BEFORE, "42703"), // The columns of its keys are gone.
        // Without a key.
        (
            "WITH changed AS ( \
             UPDATE users SET balance = balance + $1, version = version + 1 \
             WHERE id = $2 AND balance + $1 >= 0 RETURNING version, balance \
         ) \
         INSERT INTO balance_changes (user_id, version, amount, balance, key) \
         SELECT $2, version, $1, balance, $3 FROM changed",
            "23502",
        ),
    ] {
        let change = sqlx::query(sql).bind(-2_i64).bind(1_i64).bind("old");
        let error = change.execute(&mut *connection).await.expect_err("it is refused");
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some(code), "{error}");
    }
    drop(connection);
    assert_eq!(service.balance_of(1).await, 10_000);
    tokio::time::timeout(Duration::from_secs(60), service.stop()).await.unwrap();
}

#[test]
fn the_guide_says_of_each_migration_whether_the_version_before_may_serve() {
    let guide = include_str!("../../docs/upgrading.md");
    let said: Vec<i64> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(_, answer)| ["yes", "no", "there is none"].iter().any(|a| answer.starts_with(a)))
        .flat_map(|(numbers, _)| numbers.split(", "))
        .map(|number| number.parse().unwrap())
        .collect();
    let all: Vec<_> = sqlx::migrate!("./migrations").iter().map(|one| one.version).collect();
    assert_eq!(said, all);
}
