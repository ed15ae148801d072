//! A start that has to wait: it says so, ends in time, ends at once on SIGTERM, and accepts no connection
//! meanwhile.

mod waits;

use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use sqlx::migrate::Migrate;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::cluster::{fresh_folder, shared};
use crate::executable::{PATIENCE, error_line, plimsoll, send, start, wait_for};
use crate::faults::until;
pub(crate) use waits::free_port;
use waits::{Silence, WAITS};

/// "At once", on a machine with a hundred other tests. What it must not take is one of the time limits,
/// of ten seconds and more.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn assert_ends_at_once(child: &mut tokio::process::Child, why: &str) {
    let told = Instant::now();
    send(child, Signal::TERM);
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(0), "{why}");
    assert!(told.elapsed() < AT_ONCE, "{why}: {:?}", told.elapsed());
}

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_its_database() {
    for wait in WAITS {
        let database = Silence::start(*wait).await;
        let port = free_port().to_string();
        let variables = [("DATABASE_URL", &*database.url), ("PORT", &port)];
        let (mut child, mut log) = start(&fresh_folder("waiting"), &["serve"], &variables);
        let line = wait_for(&mut log, "waiting for the database").await;
        assert!(line.contains(&database.address), "{line}");
        // No client waits with it.
        let refused = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{wait:?}");
        assert_ends_at_once(&mut child, &format!("{wait:?}")).await;
    }
}

#[tokio::test]
async fn a_start_gives_up_after_connect_timeout_secs_and_says_so_in_one_line() {
    for wait in WAITS {
        let database = Silence::start(*wait).await;
        for command in ["serve", "migrate"] {
            let variables =
                [("DATABASE_URL", &*database.url), ("PORT", "0"), ("CONNECT_TIMEOUT_SECS", "1")];
            let began = Instant::now();
            let output = run(&variables, command).await;
            assert!(began.elapsed() < AT_ONCE, "{wait:?}: {:?}", began.elapsed());
            assert_eq!(output.status.code(), Some(3), "{wait:?}: {output:?}");
            let expected = format!(
                "plimsoll: cannot connect to PostgreSQL at {} within 1 seconds \
                 (CONNECT_TIMEOUT_SECS): ",
                database.address
            );
            assert!(error_line(&output).starts_with(&expected), "{wait:?}: {output:?}");
        }
    }
}

async fn run(variables: &[(&str, &str)], command: &str) -> Output {
    let mut command = plimsoll(&fresh_folder("start"), &[command], variables);
    timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs")
}

#[tokio::test]
async fn a_wrong_password_is_not_waited_for() {
    let database = shared().await.fresh_database().await.database("no such database");
    let url = database.to_url_lossy().to_string();
    let output = run(&[("DATABASE_URL", &url), ("PORT", "0")], "serve").await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let line = error_line(&output);
    assert!(line.starts_with("plimsoll: cannot connect to PostgreSQL: "), "{line}");
    assert!(line.contains("does not exist"), "{line}");
}

#[tokio::test]
async fn a_database_that_comes_up_late_is_used() {
    let database = shared().await.fresh_database().await;
    let socket = database.get_socket().expect("it has one").join(".s.PGSQL.5432");
    let folder = fresh_folder("late");
    let url = database.socket(&folder).to_url_lossy().to_string();
    let variables = [("DATABASE_URL", &*url), ("PORT", "0")];
    let (mut child, mut log) = start(&fresh_folder("early"), &["serve"], &variables);
    wait_for(&mut log, "waiting for the database").await;
    std::os::unix::fs::symlink(socket, folder.join(".s.PGSQL.5432")).unwrap();
    wait_for(&mut log, "listening on").await;
    assert_ends_at_once(&mut child, "it serves").await;
}

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_the_migration_of_another_instance() {
    let database = shared().await.fresh_database().await;
    let mut other = connect(&database).await;
    other.lock().await.unwrap();
    let url = database.to_url_lossy().to_string();
    let variables = [("DATABASE_URL", &*url), ("PORT", "0")];
    let (mut child, mut log) = start(&fresh_folder("lock"), &["serve"], &variables);
    wait_for(&mut log, "another instance migrates the schema").await;
    assert_ends_at_once(&mut child, "the lock").await;
    until_the_service_has_no_session(&mut other).await;
}

#[tokio::test]
async fn sigterm_ends_a_start_that_migrates_and_the_database_rolls_the_migration_back() {
    let (database, mut other) = crate::upgrade::migrated_to(2).await;
    // The third migration locks this table first.
    other.execute("BEGIN; LOCK TABLE users").await.unwrap();
    let url = database.to_url_lossy().to_string();
    let variables = [("DATABASE_URL", &*url), ("PORT", "0")];
    let (mut child, mut log) = start(&fresh_folder("migrating"), &["serve"], &variables);
    wait_for(&mut log, "migrating the schema").await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass";
    until("the migration waits", async || count(&mut other, waits).await == 1).await;
    assert_ends_at_once(&mut child, "a migration").await;
    // Within a transaction, the list of sessions stays as it was.
    let mut third = connect(&database).await;
    until_the_service_has_no_session(&mut third).await;
    other.execute("COMMIT").await.unwrap();
    let applied = "SELECT count(*) FROM _sqlx_migrations";
    assert_eq!(count(&mut other, applied).await, 2, "nothing of the third");
}

async fn connect(database: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(&database.clone().application_name("test")).await.unwrap()
}

async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn until_the_service_has_no_session(connection: &mut PgConnection) {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'plimsoll'";
    until("the server has ended the session", async || count(connection, sql).await == 0).await;
}

/// Its `postgres` starts and never becomes ready, as in a long recovery.
const NEVER_READY: &str = r#"#!/bin/sh
case "$1" in
    -D) echo $$ >"$2/started"; exec sleep 600 ;;
    *) exec BIN/postgres "$@" ;;
esac
"#;

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_the_private_postgresql() {
    let folder = fresh_folder("never-ready");
    let real = shared().await.private_cluster().bin_dir().display().to_string();
    for (name, script) in
        [("postgres", NEVER_READY), ("initdb", "#!/bin/sh\nexec BIN/initdb \"$@\"\n")]
    {
        let path = folder.join(name);
        std::fs::write(&path, script.replace("BIN", &real)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for command in ["serve", "migrate"] {
        let data = fresh_folder("never-ready-data").join("data");
        let variables = [
            ("DATA_DIR", data.to_str().unwrap()),
            ("PG_BIN", folder.to_str().unwrap()),
            ("PORT", "0"),
        ];
        let (mut child, _log) = start(&folder, &[command], &variables);
        let started = data.join("postgres/started");
        let pid = || std::fs::read_to_string(&started).ok()?.trim().parse::<u32>().ok();
        until("the server was started", async || pid().is_some()).await;
        let told = Instant::now();
        send(&child, Signal::TERM);
        let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
        // A `migrate` that was interrupted has not done what it was asked for.
        assert_eq!(status.code(), Some(if command == "serve" { 0 } else { 3 }), "{command}");
        assert!(told.elapsed() < AT_ONCE, "{:?}", told.elapsed());
        let process = format!("/proc/{}", pid().unwrap());
        until("the server has ended", async || !std::path::Path::new(&process).exists()).await;
    }
}
