//! Two roles: one owns the tables and migrates them, the other one only serves.

use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use plimsoll::approach::registry;
use plimsoll::cluster::SERVICE_ROLE as OWNER;
use plimsoll::store::grants::RIGHTS;
use plimsoll::store::key_expiry;
use reqwest::Method;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use crate::cluster::{fresh_folder, shared};
use crate::executable::{error_line, run, text};
use crate::faults::until;
use crate::operations::{capture, get, let_expire, post, release, reserve, state, transfer};
use crate::service::{TestService, balance_body, read};

/// A database with both roles.
pub(crate) struct Roles {
    pub(crate) owner: PgConnectOptions,
    pub(crate) service: PgConnectOptions,
}

impl Roles {
    /// As an operator makes them: with `deploy/postgres/roles.sql`, twice, since that has to be harmless.
    pub(crate) async fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let owner = shared().await.fresh_database().await;
        let role = format!("Serves \"{}\"", NEXT.fetch_add(1, Ordering::Relaxed));
        for _ in 0..2 {
            let output = roles_sql(&role, owner.get_database().unwrap()).await;
            assert!(output.status.success(), "{output:?}");
        }
        Self { service: owner.clone().username(&role), owner }
    }

    pub(crate) fn role(&self) -> &str {
        self.service.get_username()
    }

    pub(crate) async fn migrate(&self) -> Output {
        migrate(&self.owner, &["--grant-to", self.role()]).await
    }

    /// A service that runs as the role that only serves. The test itself looks as the owner.
    async fn serve(&self, variables: &[(&str, &str)]) -> TestService {
        let variables = [variables, &[("MIGRATE_ON_START", "false")]].concat();
        TestService::start_through(self.service.clone(), self.owner.clone(), &variables).await
    }
}

async fn roles_sql(service: &str, database: &str) -> Output {
    let cluster = shared().await.private_cluster();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/roles.sql");
    tokio::process::Command::new(cluster.bin_dir().join("psql"))
        .args(["--no-psqlrc", "--quiet", "--username=postgres", "--dbname=postgres"])
        .arg(format!("--host={}", cluster.socket_dir().display()))
        .args([format!("--set=service={service}"), format!("--set=database={database}")])
        .args([format!("--set=owner={OWNER}"), format!("--file={file}")])
        .env("PLIMSOLL_SERVICE_PASSWORD", "it's \"quoted\"")
        .output()
        .await
        .expect("psql runs")
}

async fn migrate(options: &PgConnectOptions, arguments: &[&str]) -> Output {
    let url = options.to_url_lossy().to_string();
    let arguments = [&["migrate"], arguments].concat();
    run(&fresh_folder("roles"), &arguments, &[("DATABASE_URL", &url)]).await
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.expect("connects")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_serves_everything_as_a_role_that_only_serves() {
    let roles = Roles::create().await;
    let output = roles.migrate().await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let service = roles.serve(&[]).await;
    let user = service.user_with(1_000).await;
    let created = post(&service, "/users", json!({ "balance": 5 }), Some("made")).await;
    assert_eq!(created.0.0, 201, "{created:?}");
    for name in registry::names() {
        assert_eq!(service.change(name, user, -1).await.0, 200, "{name}");
        let (first, _) = service.keyed(name, user, -1, name).await;
        assert_eq!(first.0, 200, "{name}");
        assert_eq!(service.keyed(name, user, -1, name).await, (first, true), "{name}");
    }
    assert_eq!(transfer(&service, user, 1, 10).await.0, 201);
    let kept = json!({ "from": user, "to": 1, "amount": 1 });
    assert_eq!(post(&service, "/transfers", kept.clone(), Some("t")).await.0.0, 201);
    assert!(post(&service, "/transfers", kept, Some("t")).await.1, "a replay");
    let captured = reserve(&service, user, 20).await;
    assert_eq!(capture(&service, user, captured, json!({ "amount": 5, "to": 1 })).await.0, 200);
    let released = reserve(&service, user, 20).await;
    assert_eq!(release(&service, user, released).await.0, 200);
    for body in [
        json!({ "changes": [{ "userId": user, "amount": -1, "key": "bulk" }] }),
        json!({ "mode": "all", "changes": [{ "userId": user, "amount": -1 }] }),
    ] {
        assert_eq!(post(&service, "/changes", body, None).await.0.0, 200);
    }
    let expired = reserve(&service, user, 20).await;
    assert!(let_expire(&service, user, expired).await);
    until("the sweep releases it", async || state(&service, user, expired).await == "expired")
        .await;
    for path in [
        format!("/users/{user}"),
        format!("/users/{user}/changes"),
        format!("/users/{user}/holds"),
        format!("/users/{user}/balance?version=1"),
        format!("/users/{user}/balance?at={}", now(&service).await),
    ] {
        let (status, body) = get(&service, &path).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert_eq!(read(service.send(Method::GET, "/readyz", None).await).await.0, 200);
    assert_expires_keys(&roles, &service).await;
    let url = roles.service.to_url_lossy().to_string();
    let verified = run(&fresh_folder("roles"), &["verify"], &[("DATABASE_URL", &url)]).await;
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    service.stop().await;
}

async fn now(service: &TestService) -> String {
    // Encoded for the query: a `+` would be a space.
    sqlx::query_scalar(
        r#"SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#,
    )
    .fetch_one(&service.pool)
    .await
    .unwrap()
}

async fn assert_expires_keys(roles: &Roles, service: &TestService) {
    let age = "UPDATE idempotency_keys SET created_at = now() - interval '2 hours'; \
               UPDATE user_creation_keys SET created_at = now() - interval '2 hours'";
    service.pool.execute(age).await.unwrap();
    let mut connection = connect(&roles.service).await;
    let removed = key_expiry::remove_older_than(&mut connection, Duration::from_secs(3_600)).await;
    assert!(removed.unwrap() > 6, "one of each approach, and more");
}

/// What an attacker with the service's password would attempt.
const ATTEMPTS: &[&str] = &[
    "UPDATE balance_changes SET amount = amount WHERE user_id = 1",
    "UPDATE balance_changes SET reference = 'x' WHERE false",
    "DELETE FROM balance_changes WHERE user_id = 1",
    "TRUNCATE balance_changes",
    "DROP TABLE balance_changes",
    "ALTER TABLE balance_changes DROP COLUMN reference",
    "ALTER TABLE balance_changes DISABLE TRIGGER ALL",
    "ALTER TABLE balance_changes OWNER TO CURRENT_USER",
    "CREATE INDEX ON balance_changes (amount)",
    "CREATE RULE quiet AS ON INSERT TO balance_changes DO INSTEAD NOTHING",
    "CREATE TRIGGER quiet BEFORE INSERT ON balance_changes \
     FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "DO $$ BEGIN LOCK TABLE balance_changes IN ACCESS EXCLUSIVE MODE; END $$",
    "INSERT INTO balance_changes SELECT * FROM balance_changes WHERE user_id = 1 \
     ON CONFLICT (user_id, version) DO UPDATE SET amount = 1",
    "MERGE INTO balance_changes AS b USING users AS u ON b.user_id = u.id \
     WHEN MATCHED THEN DELETE",
    "DELETE FROM users WHERE id = 1",
    "UPDATE users SET id = 2 WHERE id = 1",
    "TRUNCATE users",
    "DROP TABLE users",
    "ALTER TABLE users DROP CONSTRAINT users_balance_check",
    "DELETE FROM holds",
    "UPDATE holds SET amount = 1",
    "TRUNCATE holds",
    "UPDATE idempotency_keys SET answer = '{1}'",
    "TRUNCATE idempotency_keys",
    "INSERT INTO _sqlx_migrations SELECT * FROM _sqlx_migrations",
    "DELETE FROM _sqlx_migrations",
    "DROP TABLE _sqlx_migrations",
    "ALTER TYPE change_kind ADD VALUE 'gift'",
    "CREATE TABLE mine (a int)",
    "CREATE TEMP TABLE mine (a int)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "SET session_replication_role = replica",
    "SET ROLE plimsoll",
    "COPY balance_changes TO PROGRAM 'cat'",
];

#[tokio::test]
async fn the_database_refuses_whatever_rewrites_the_journal_or_changes_the_schema() {
    let roles = Roles::create().await;
    roles.migrate().await;
    let service = roles.serve(&[]).await;
    let digest = "SELECT md5(string_agg(c::text, ',' ORDER BY user_id, version)) \
                  FROM balance_changes AS c";
    let before: String = sqlx::query_scalar(digest).fetch_one(&service.pool).await.unwrap();
    let mut connection = connect(&roles.service).await;
    for attempt in ATTEMPTS {
        let Err(sqlx::Error::Database(error)) = connection.execute(*attempt).await else {
            panic!("{attempt} is not refused");
        };
        let code = error.code().unwrap_or_default().into_owned();
        // Where `MERGE` does not exist (before PostgreSQL 15), it is a syntax error.
        let is_refused = code == "42501" || (attempt.starts_with("MERGE") && code == "42601");
        assert!(is_refused, "{attempt}: {code} {error}");
    }
    let after: String = sqlx::query_scalar(digest).fetch_one(&service.pool).await.unwrap();
    assert_eq!(before, after);
    service.stop().await;
}

#[tokio::test]
async fn every_table_has_its_rights() {
    let roles = Roles::create().await;
    roles.migrate().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')",
    )
    .fetch_all(&mut connect(&roles.owner).await)
    .await
    .unwrap();
    for table in &tables {
        assert!(RIGHTS.iter().any(|(name, _)| name == table), "grants.rs lacks {table}");
    }
    assert_eq!(tables.len(), RIGHTS.len());
}

#[tokio::test]
async fn rights_that_the_role_had_before_are_taken_away() {
    let roles = Roles::create().await;
    migrate(&roles.owner, &[]).await;
    let name = roles.role().replace('"', "\"\"");
    let grant = format!("GRANT ALL ON balance_changes, users TO \"{name}\"");
    connect(&roles.owner).await.execute(grant.as_str()).await.unwrap();
    let output = roles.migrate().await;
    let said =
        format!("The database is up to date.\n{} may serve, and nothing else.\n", roles.role());
    assert_eq!(text(&output.stdout), said);
    let mut connection = connect(&roles.service).await;
    let error = connection.execute("DELETE FROM balance_changes").await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"));
}

#[tokio::test]
async fn a_role_that_cannot_be_limited_is_refused() {
    let roles = Roles::create().await;
    for (role, sentence) in [
        ("nobody here", "there is no role nobody here: create it first"),
        (OWNER, "the role plimsoll owns the tables, or is a superuser"),
        ("postgres", "the role postgres owns the tables, or is a superuser"),
    ] {
        let output = migrate(&roles.owner, &["--grant-to", role]).await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let line = error_line(&output);
        assert!(line.starts_with(&format!("plimsoll: {sentence}")), "{line}");
    }
    // The owner still has its rights.
    roles.migrate().await;
    let service = TestService::start_on(roles.owner.clone(), &[]).await;
    assert_eq!(service.change("self", 1, -1).await, (200, balance_body(9_999)));
    service.stop().await;
}

#[tokio::test]
async fn without_migrating_the_start_requires_the_schema_of_this_version() {
    let roles = Roles::create().await;
    let url = roles.service.to_url_lossy().to_string();
    let start = async |migrates: &'static str| {
        let variables = [("DATABASE_URL", &*url), ("PORT", "0"), ("MIGRATE_ON_START", migrates)];
        let output = run(&fresh_folder("roles"), &["serve"], &variables).await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        error_line(&output).to_owned()
    };
    let empty = start("false").await;
    assert!(
        empty.starts_with("plimsoll: the schema of the database is at migration 0, but ")
            && empty.ends_with(" is needed: run `plimsoll migrate`"),
        "{empty}"
    );
    let may_not = start("true").await;
    assert!(
        may_not.starts_with("plimsoll: cannot migrate the database: ")
            && may_not.ends_with("; a role that only serves needs MIGRATE_ON_START=false"),
        "{may_not}"
    );
    migrate(&roles.owner, &[]).await;
    let hidden = start("false").await;
    assert!(
        hidden.contains("is hidden from this role: run `plimsoll migrate --grant-to`"),
        "{hidden}"
    );

    roles.migrate().await;
    let mut owner = connect(&roles.owner).await;
    // As a newer version would leave it.
    owner
        .execute("INSERT INTO _sqlx_migrations SELECT 9999, 'later', now(), true, '', 0")
        .await
        .unwrap();
    let newer = start("false").await;
    assert!(newer.contains("is at migration 9999, and this version knows "), "{newer}");
    owner.execute("DELETE FROM _sqlx_migrations WHERE version = 9999").await.unwrap();
    roles.serve(&[]).await.stop().await;
}
