//! Each check of `plimsoll doctor` is made to fail once, on a real PostgreSQL.
//!
//! What takes hours to come about, or another machine, is judged in the checks' own tests.

use std::collections::BTreeMap;
use std::process::Output;

use plimsoll::cluster::{ClusterOptions, PrivateCluster, SERVICE_DATABASE};
use plimsoll::config::Config;
use plimsoll::doctor::{names, sessions_of_one_instance};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};

use crate::cluster::{fresh_folder, options_in, shared};
use crate::events::client::Events;
use crate::executable::{error_line, run, text};
use crate::faults::until;
use crate::operations::transfer;
use crate::roles::Roles;
use crate::service::TestService;

/// What production sets. The test's machine decides the rest.
const SOUND: &[(&str, &str)] = &[("AUTH_TOKENS", "alpha"), ("MAX_CONNECTIONS", "1000")];

/// The findings of one run: name to status, what was seen, and advice.
struct Findings {
    output: Output,
    by_name: BTreeMap<String, (String, String, String)>,
}

impl Findings {
    async fn of(database: &PgConnectOptions, variables: &[(&str, &str)]) -> Self {
        Self::with(database, variables, &[]).await
    }

    async fn with(
        database: &PgConnectOptions,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let url = database.to_url_lossy().to_string();
        let variables = [&[("DATABASE_URL", &*url)], variables].concat();
        let arguments = [&["doctor", "--json"], arguments].concat();
        let output = run(&fresh_folder("doctor"), &arguments, &variables).await;
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("one JSON document: {output:?}"));
        let field = |finding: &Value, name| finding[name].as_str().unwrap_or_default().to_owned();
        let by_name = document["findings"].as_array().unwrap().iter().map(|finding| {
            let [status, seen, advice] =
                ["status", "seen", "advice"].map(|name| field(finding, name));
            assert_eq!(status == "ok", advice.is_empty(), "{finding}");
            (field(finding, "check"), (status, seen, advice))
        });
        let by_name: BTreeMap<_, _> = by_name.collect();
        let is_failed = by_name.values().any(|(status, ..)| status == "fail");
        assert_eq!(output.status.code(), Some(i32::from(is_failed)), "{output:?}");
        Self { output, by_name }
    }

    #[track_caller]
    fn assert(&self, check: &str, status: &str, seen: &str) {
        let (found, text, _) = &self.by_name[check];
        assert!(found == status && text.contains(seen), "{check}: {found}, {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_database_and_a_role_that_only_serves_pass() {
    let roles = Roles::create().await;
    roles.migrate().await;
    let findings = Findings::of(&roles.service, SOUND).await;
    let found: Vec<_> = findings.by_name.keys().map(String::as_str).collect();
    let mut all: Vec<_> = names().collect();
    all.sort_unstable();
    assert_eq!(found, all);
    // The private cluster does not archive, and the disk of this machine is what it is. Other tests have
    // transactions and slots of their own.
    let of_others =
        ["archiving", "commit time", "long transactions", "listen queue", "prepared transactions"];
    for (check, (status, seen, _)) in &findings.by_name {
        assert!(status == "ok" || of_others.contains(&&**check), "{check}: {status}, {seen}");
    }
    findings.assert("archiving", "warn", "wal_level replica, archive_mode off");
    findings.assert("role", "ok", roles.role());
    // The same, for people.
    let url = roles.service.to_url_lossy().to_string();
    let variables = [&[("DATABASE_URL", &*url)], SOUND].concat();
    let output = run(&fresh_folder("doctor"), &["doctor"], &variables).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = text(&output.stdout);
    assert!(report.lines().any(|line| line == "ok    fsync                  on"), "{report}");
    assert!(report.lines().last().unwrap().starts_with("0 FAIL, "), "{report}");
}

/// A server that is set up badly in all ways that its settings allow.
async fn bad_cluster() -> (PrivateCluster, ClusterOptions) {
    let mut options = options_in(&fresh_folder("bad"));
    let settings = [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("max_connections", "12"),
        ("autovacuum", "off"),
        ("idle_in_transaction_session_timeout", "0"),
        ("default_transaction_read_only", "on"),
        ("max_prepared_transactions", "1"),
    ];
    options.settings = settings.map(|(name, value)| (name.into(), value.into())).to_vec();
    (PrivateCluster::start(options.clone()).await.expect("it starts"), options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_set_up_badly_fails_check_by_check() {
    let (cluster, mut options) = bad_cluster().await;
    let database = cluster.superuser_options(SERVICE_DATABASE);
    let write = [("default_transaction_read_only", "off")];
    let mut admin = database.clone().options(write).connect().await.unwrap();
    admin.execute("BEGIN").await.unwrap();
    admin.execute("SELECT pg_logical_emit_message(true, 'test', '')").await.unwrap();
    admin.execute("PREPARE TRANSACTION 'forgotten'").await.unwrap();
    let variables = [
        ("HOST", "0.0.0.0"),
        ("DANGEROUSLY_OPEN_TO_EVERYONE", "yes"),
        ("MAX_CONNECTIONS", "1000000"),
    ];
    let findings = Findings::of(&database, &variables).await;
    findings.assert("fsync", "fail", "off: a crash");
    findings.assert("full_page_writes", "fail", "off: a crash");
    findings.assert("synchronous_commit", "warn", "off: Plimsoll turns it on for itself");
    findings.assert("archiving", "fail", "wal_level minimal");
    findings.assert("sessions", "fail", "for each of 1 instances; 9 places");
    findings.assert("autovacuum", "fail", "off: tables grow");
    findings.assert("idle transactions", "warn", "never ended");
    findings.assert("accepts changes", "fail", "transactions are read-only");
    findings.assert("prepared transactions", "warn", "1: they keep locks");
    findings.assert("schema", "fail", "at migration 0, but");
    findings.assert("role", "warn", "postgres is a superuser");
    findings.assert("schema rights", "warn", "may create");
    findings.assert("access", "fail", "whoever reaches the port");
    findings.assert("open files", "fail", "but MAX_CONNECTIONS and the rest need 1000128");
    findings.assert("server version", "ok", "PostgreSQL");
    admin.execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
    admin.close().await.unwrap();
    cluster.stop().await.unwrap();
    drop(cluster);

    // Slots need another `wal_level`; an archive command that fails needs the archiver.
    options.settings =
        [("archive_mode", "on"), ("archive_command", "false"), ("synchronous_standby_names", "")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec();
    let cluster = PrivateCluster::start(options).await.expect("it starts");
    let database = cluster.superuser_options(SERVICE_DATABASE);
    let mut admin = database.connect().await.unwrap();
    admin.execute("SELECT pg_create_physical_replication_slot('gone', true)").await.unwrap();
    admin.execute("SELECT pg_switch_wal()").await.unwrap();
    until("the archiver fails", async || {
        let failed = "SELECT failed_count > 0 FROM pg_stat_archiver";
        sqlx::query_scalar::<_, bool>(failed).fetch_one(&mut admin).await.unwrap()
    })
    .await;
    let findings = Findings::of(&database, SOUND).await;
    findings.assert("archiving", "fail", "the last attempt failed");
    findings.assert("replication slots", "warn", "1, of which 1 inactive");
    findings.assert("fsync", "ok", "on");
    admin.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn checksums_are_missed_where_the_cluster_has_none() {
    let options = options_in(&fresh_folder("checksums"));
    let cluster = PrivateCluster::start(options.clone()).await.expect("it starts");
    let (folder, programs) = (cluster.cluster_dir(), cluster.bin_dir().to_owned());
    cluster.stop().await.unwrap();
    drop(cluster);
    let disabled = std::process::Command::new(programs.join("pg_checksums"))
        .args(["--disable", "--pgdata"])
        .arg(&folder)
        .output()
        .expect("it runs");
    assert!(disabled.status.success(), "{disabled:?}");
    // It ran as this process's user, and the server runs as the owner of its folder.
    let control = folder.join("global/pg_control");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&folder).unwrap());
    std::os::unix::fs::chown(&control, Some(owner), Some(owner)).unwrap();
    let cluster = PrivateCluster::start(options).await.expect("it starts");
    let findings = Findings::of(&cluster.superuser_options(SERVICE_DATABASE), SOUND).await;
    findings.assert("data checksums", "warn", "off: corruption");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_owner_and_a_mighty_role_are_more_than_a_service_needs() {
    let roles = Roles::create().await;
    roles.migrate().await;
    let findings = Findings::of(&roles.owner, SOUND).await;
    findings.assert("role", "warn", "plimsoll owns the tables");
    findings.assert("journal", "warn", "update, delete, truncate");
    findings.assert("schema rights", "warn", "may create");

    let mut superuser =
        shared().await.private_cluster().superuser_options("postgres").connect().await.unwrap();
    let name = roles.role().replace('"', "\"\"");
    superuser.execute(format!("ALTER ROLE \"{name}\" CREATEDB").as_str()).await.unwrap();
    superuser.execute(format!("ALTER ROLE \"{name}\" CONNECTION LIMIT 20").as_str()).await.unwrap();
    let mut owner = roles.owner.connect().await.unwrap();
    owner
        .execute(
            format!(
                "GRANT UPDATE (amount) ON balance_changes TO \"{name}\"; \
                 ALTER TABLE holds SET (autovacuum_enabled = false); \
                 DELETE FROM _sqlx_migrations WHERE version = 4"
            )
            .as_str(),
        )
        .await
        .unwrap();
    let findings = Findings::of(&roles.service, SOUND).await;
    findings.assert("role", "warn", "may create roles or databases");
    findings.assert("journal", "warn", "the role can rewrite it (update)");
    findings.assert("autovacuum", "fail", "off for holds");
    findings.assert("schema", "fail", "at migration 3, but");
    findings.assert("sessions", "warn", "20 places, ");
    let findings = Findings::with(&roles.service, SOUND, &["--instances", "2"]).await;
    findings.assert("sessions", "fail", "for each of 2 instances");
    let advice = &findings.by_name["sessions"].2;
    assert!(advice.contains("POOL_SIZE"), "{advice}");
    assert_eq!(findings.output.status.code(), Some(1));
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_no_finding() {
    let nobody = [("DATABASE_URL", "postgres:///d?host=/nowhere")];
    let output = run(&fresh_folder("doctor"), &["doctor", "--json"], &nobody).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(error_line(&output).starts_with("plimsoll: cannot connect to PostgreSQL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_opens_no_more_sessions_than_are_counted() {
    let variables = [("POOL_SIZE", "5"), ("READ_POOL_SIZE", "3"), ("LANES", "3"), ("WORKERS", "2")];
    let service = TestService::start_with(&variables).await;
    // So many that each lane has some.
    for user in 1..=20 {
        service.user_with(100).await;
        service.change("batched", user, -1).await;
        transfer(&service, user, 1, 1).await;
    }
    service.send(reqwest::Method::GET, "/readyz", None).await;
    let _watching = Events::open(service.service.address(), 1).await;
    let lookup = |name: &str| {
        let set = variables.iter().find(|(variable, _)| *variable == name);
        set.map(|(_, value)| (*value).to_owned())
    };
    let counted = sessions_of_one_instance(&Config::from_lookup(&lookup).unwrap());
    let open = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name = 'plimsoll'";
    // The expiry of keys has a session once a minute only, and the sweep of holds its first one after a
    // second.
    until("all of them are open", async || {
        let open: i64 = sqlx::query_scalar(open).fetch_one(&service.pool).await.unwrap();
        assert!(open < i64::from(counted), "{open} are open, {counted} were counted");
        open == i64::from(counted) - 1
    })
    .await;
    service.stop().await;
}
