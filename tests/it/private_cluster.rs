//! The private cluster starts from nothing, survives every crash, and leaves foreign files alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use plimsoll::cluster::{ClusterError, ClusterOptions, PrivateCluster, SERVICE_DATABASE};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::cluster::{fresh_folder, options_in, shared};

async fn start(folder: &Path) -> PrivateCluster {
    PrivateCluster::start(options_in(folder)).await.expect("starts")
}

async fn refusal(options: ClusterOptions) -> ClusterError {
    PrivateCluster::start(options).await.map(|_| ()).expect_err("is refused")
}

async fn ask(options: &PgConnectOptions, sql: &str) -> String {
    let mut connection = options.connect().await.expect("connects");
    let answer = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("answers");
    connection.close().await.expect("disconnects");
    answer
}

async fn run(options: &PgConnectOptions, sql: &str) {
    let mut connection = options.connect().await.expect("connects");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("runs");
    connection.close().await.expect("disconnects");
}

/// Acts like `kill -9` of the service: the lock is released, and the server keeps running.
fn abandon(cluster: PrivateCluster) {
    drop(cluster);
}

async fn kill_postmaster(cluster: &PrivateCluster) {
    let pid = cluster.postmaster_pid().expect("runs");
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("kills");
    let give_up = Instant::now() + Duration::from_secs(10);
    while cluster.is_running() {
        assert!(Instant::now() < give_up, "a killed postmaster still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn it_starts_from_nothing_and_answers() {
    let folder = fresh_folder("nothing");
    let cluster = start(&folder).await;
    let service = cluster.connect_options(SERVICE_DATABASE);
    assert_eq!(ask(&service, "SELECT current_user::text").await, "plimsoll");
    assert_eq!(
        ask(&service, "SELECT usesuper::text FROM pg_user WHERE usename = current_user").await,
        "false"
    );
    run(&service, "CREATE TABLE made_by_the_owner (n int)").await;

    let superuser = cluster.superuser_options("postgres");
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("lc_messages", "C"),
        ("jit", "off"),
    ] {
        assert_eq!(ask(&superuser, &format!("SHOW {setting}")).await, value, "{setting}");
    }
    assert_eq!(
        ask(&superuser, "SELECT datcollate::text FROM pg_database WHERE datname = 'plimsoll'")
            .await,
        "C"
    );
    cluster.stop().await.expect("stops");
}

#[tokio::test]
async fn a_running_server_is_re_attached_to_within_a_second() {
    let folder = fresh_folder("attach");
    let cluster = start(&folder).await;
    let pid = cluster.postmaster_pid();
    abandon(cluster);

    let began = Instant::now();
    let cluster = start(&folder).await;
    let took = began.elapsed();
    assert_eq!(cluster.postmaster_pid(), pid);
    assert!(took < Duration::from_secs(1), "took {took:?}");
    assert_eq!(ask(&cluster.connect_options(SERVICE_DATABASE), "SELECT 'here'").await, "here");
    assert!(!cluster.restart_if_dead().await.expect("looks"));
    cluster.stop().await.expect("stops");
}

#[tokio::test]
async fn a_second_instance_on_the_same_folder_is_told_who_has_it() {
    let folder = fresh_folder("second");
    let first = start(&folder).await;
    let error = refusal(options_in(&folder)).await;
    assert!(matches!(error, ClusterError::InUse { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    assert!(!message.contains('\n'), "{message}");
    assert!(first.is_running());
    first.stop().await.expect("stops");
}

#[tokio::test]
async fn a_stop_and_a_start_keep_what_was_written() {
    let folder = fresh_folder("restart");
    let cluster = start(&folder).await;
    let database = cluster.connect_options(SERVICE_DATABASE);
    run(&database, "CREATE TABLE kept (v text); INSERT INTO kept VALUES ('kept')").await;
    cluster.stop().await.expect("stops");
    cluster.stop().await.expect("stopping twice is the same as once");
    assert!(!cluster.is_running());
    assert!(!cluster.restart_if_dead().await.expect("stays down"), "came back after a stop");
    drop(cluster);

    let cluster = start(&folder).await;
    assert_eq!(ask(&database, "SELECT v FROM kept").await, "kept");
    cluster.stop().await.expect("stops");
}

#[tokio::test]
async fn a_killed_postmaster_is_started_again_and_has_lost_nothing() {
    let folder = fresh_folder("killed");
    let cluster = start(&folder).await;
    let database = cluster.connect_options(SERVICE_DATABASE);
    run(&database, "CREATE TABLE kept (v text); INSERT INTO kept VALUES ('kept')").await;
    // A backend that is busy when its postmaster dies, and so notices the death late.
    let busy = tokio::spawn({
        let database = database.clone();
        async move {
            let mut connection = database.connect().await.expect("connects");
            let loops = "DO $$ BEGIN WHILE clock_timestamp() < now() + interval '1 s' LOOP END LOOP; END $$";
            let _ = sqlx::query(loops).execute(&mut connection).await;
        }
    });
    let superuser = cluster.superuser_options("postgres");
    let give_up = Instant::now() + Duration::from_secs(10);
    let running = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'DO %'";
    while ask(&superuser, running).await == "0" {
        assert!(Instant::now() < give_up, "the busy backend never came");
    }
    kill_postmaster(&cluster).await;

    assert!(cluster.restart_if_dead().await.expect("starts again"));
    assert_eq!(ask(&database, "SELECT v FROM kept").await, "kept");
    busy.await.expect("ends");

    kill_postmaster(&cluster).await;
    drop(cluster);
    let cluster = start(&folder).await;
    assert_eq!(ask(&database, "SELECT v FROM kept").await, "kept");
    cluster.stop().await.expect("stops");
}

#[tokio::test]
async fn a_stale_pid_file_whose_pid_is_another_program_now_does_not_stop_a_start() {
    let folder = fresh_folder("stale");
    let cluster = start(&folder).await;
    let socket_lock = cluster.socket_dir().join(".s.PGSQL.5432.lock");
    let files = [cluster.cluster_dir().join("postmaster.pid"), socket_lock];
    kill_postmaster(&cluster).await;
    drop(cluster);
    // PostgreSQL mistakes a process of the server's own user for a postmaster.
    let mut other =
        KilledOnDrop(as_server_user(&folder, "sleep").arg("600").spawn().expect("spawns"));
    for file in &files {
        let text = fs::read_to_string(file).expect("reads");
        let (_, rest) = text.split_once('\n').expect("lines");
        fs::write(file, format!("{}\n{rest}", other.0.id())).expect("writes");
    }

    let cluster = start(&folder).await;
    assert!(other.0.try_wait().expect("looks").is_none(), "the other program was ended");
    cluster.stop().await.expect("stops");
    assert!(other.0.try_wait().expect("looks").is_none(), "the other program was ended");
}

/// A child that is killed at the end of the test, even if the test fails.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_copy_of_a_running_servers_folder_gets_a_server_of_its_own() {
    let (folder, copy) = (fresh_folder("original"), fresh_folder("copy"));
    let original = start(&folder).await;
    let copied = Command::new("cp").arg("-a").arg(folder.join("data")).arg(&copy).status();
    assert!(copied.expect("copies").success());

    let other = start(&copy).await;
    assert_ne!(other.postmaster_pid(), original.postmaster_pid());
    other.stop().await.expect("stops");
    assert!(original.is_running(), "the original was stopped");
    original.stop().await.expect("stops");
}

#[tokio::test]
async fn an_initdb_that_was_cut_off_is_thrown_away() {
    let folder = fresh_folder("half");
    let data_dir = options_in(&folder).data_dir;
    start(&folder).await.stop().await.expect("stops");
    // The state after a crash in the middle: some files, no cluster under its final name.
    let half = data_dir.join("postgres.new-1");
    fs::rename(data_dir.join("postgres"), &half).expect("renames");
    fs::remove_file(half.join("PG_VERSION")).expect("removes");

    let cluster = start(&folder).await;
    assert_eq!(ask(&cluster.connect_options(SERVICE_DATABASE), "SELECT 'here'").await, "here");
    assert!(!half.exists());
    cluster.stop().await.expect("stops");
}

/// Every path below a folder with its mode and content.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).expect("looks");
        let content = match fs::read_dir(&path) {
            Ok(entries) => {
                open.extend(entries.map(|entry| entry.expect("reads").path()));
                Vec::new()
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                fs::read(&path).expect("reads")
            }
            Err(error) => panic!("{}: {error}", path.display()),
        };
        found.insert(path, (metadata.mode(), content));
    }
    found
}

#[tokio::test]
async fn somebody_elses_files_are_refused_and_left_as_they_are() {
    let folder = fresh_folder("files");
    let options = options_in(&folder);
    fs::create_dir(&options.data_dir).expect("creates");
    fs::write(options.data_dir.join("thesis.txt"), "years of work").expect("writes");
    let before = snapshot(&folder);
    let error = refusal(options).await;
    assert!(
        matches!(&error, ClusterError::NotOurs { entry, .. } if entry == "thesis.txt"),
        "{error:?}"
    );
    assert_eq!(snapshot(&folder), before);
}

#[tokio::test]
async fn another_postgresqls_folder_is_refused_and_left_as_it_is() {
    let folder = fresh_folder("foreign");
    let ours = start(&folder).await;
    ours.stop().await.expect("stops");
    drop(ours);
    // Moved out of its folder, it is an ordinary cluster.
    let foreign = folder.join("foreign");
    fs::rename(options_in(&folder).data_dir.join("postgres"), &foreign).expect("renames");
    let before = snapshot(&foreign);
    let error = refusal(ClusterOptions { data_dir: foreign.clone(), ..options_in(&folder) }).await;
    assert!(matches!(error, ClusterError::ForeignCluster { .. }), "{error:?}");
    assert_eq!(snapshot(&foreign), before);
}

#[tokio::test]
async fn a_cluster_of_another_version_is_refused_by_name() {
    let folder = fresh_folder("version");
    let cluster = start(&folder).await;
    cluster.stop().await.expect("stops");
    let version = cluster.cluster_dir().join("PG_VERSION");
    drop(cluster);
    fs::write(&version, "13\n").expect("writes");
    let message = refusal(options_in(&folder)).await.to_string();
    assert!(message.contains("was made by PostgreSQL 13, but only"), "{message}");
    assert!(message.contains("install PostgreSQL 13"), "{message}");
}

#[tokio::test]
async fn a_wrong_pg_bin_is_refused_by_name() {
    let folder = fresh_folder("pg-bin");
    let options = ClusterOptions { pg_bin: Some(folder.clone()), ..options_in(&folder) };
    let message = refusal(options).await.to_string();
    assert!(
        message.starts_with(&format!("PG_BIN={} is not usable", folder.display())),
        "{message}"
    );
}

#[tokio::test]
async fn a_failed_start_quotes_the_servers_own_reason() {
    let folder = fresh_folder("failed");
    let mut options = options_in(&folder);
    options.settings.push(("shared_buffers".into(), "a lot".into()));
    let message = refusal(options).await.to_string();
    assert!(
        message.contains(r#"invalid value for parameter "shared_buffers": "a lot""#),
        "{message}"
    );
    assert!(message.contains("postgres.log"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_no_obstacle() {
    let folder = fresh_folder("long").join("a".repeat(120));
    let cluster = start(&folder).await;
    assert!(cluster.socket_dir().starts_with("/tmp"), "{}", cluster.socket_dir().display());
    assert_private(cluster.socket_dir());
    assert_eq!(ask(&cluster.connect_options(SERVICE_DATABASE), "SELECT 'here'").await, "here");
    cluster.stop().await.expect("stops");
    fs::remove_dir_all(cluster.socket_dir()).expect("removes");
}

#[tokio::test]
async fn a_socket_folder_that_others_could_have_laid_out_is_refused() {
    let folder = fresh_folder("link");
    let cluster = start(&folder).await;
    let socket_dir = cluster.socket_dir().to_owned();
    cluster.stop().await.expect("stops");
    drop(cluster);

    fs::set_permissions(&socket_dir, fs::Permissions::from_mode(0o755)).expect("opens up");
    let message = refusal(options_in(&folder)).await.to_string();
    assert!(message.contains("its mode is 0755"), "{message}");

    fs::remove_dir_all(&socket_dir).expect("removes");
    symlink("/tmp", &socket_dir).expect("links");
    let message = refusal(options_in(&folder)).await.to_string();
    assert!(message.contains("it is not a folder"), "{message}");
}

fn assert_private(socket_dir: &Path) {
    let metadata = fs::symlink_metadata(socket_dir).expect("looks");
    assert_eq!(metadata.mode() & 0o7777, 0o700, "{}", socket_dir.display());
    let socket = fs::symlink_metadata(socket_dir.join(".s.PGSQL.5432")).expect("looks");
    assert_eq!(socket.mode() & 0o777, 0o700);
}

#[tokio::test]
async fn only_its_own_user_can_reach_it_and_only_by_the_socket() {
    let cluster = shared().await.private_cluster();
    assert_private(cluster.socket_dir());
    let superuser = cluster.superuser_options("postgres");
    assert_eq!(ask(&superuser, "SHOW listen_addresses").await, "");
    // Checks the server's setting, and the address in its pid file.
    let pid_file = fs::read_to_string(cluster.cluster_dir().join("postmaster.pid")).expect("reads");
    assert_eq!(pid_file.lines().nth(5), Some(""), "{pid_file}");
    let rules =
        "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules WHERE type <> 'local'";
    assert_eq!(ask(&superuser, rules).await, "reject");
}

#[tokio::test]
async fn the_server_runs_in_a_process_group_of_its_own() {
    let cluster = shared().await.private_cluster();
    let pid = i32::try_from(cluster.postmaster_pid().expect("runs")).expect("a pid");
    let group = rustix::process::getpgid(Pid::from_raw(pid)).expect("its group");
    assert_eq!(group.as_raw_nonzero().get(), pid);
}

#[tokio::test]
async fn every_test_gets_a_database_of_its_own() {
    let shared = shared().await;
    let (one, other) = (shared.fresh_database().await, shared.fresh_database().await);
    run(&one, "CREATE TABLE mine (n int)").await;
    run(&other, "CREATE TABLE mine (n int)").await;
}

#[tokio::test]
async fn the_server_never_runs_as_root() {
    let cluster = shared().await.private_cluster();
    let owner = fs::metadata(cluster.cluster_dir()).expect("looks").uid();
    assert_ne!(owner, 0);
    if !geteuid().is_root() {
        assert_eq!(owner, geteuid().as_raw());
    }
    // The owner of a file that the running server made is the server's user.
    let socket = fs::metadata(cluster.socket_dir().join(".s.PGSQL.5432")).expect("looks");
    assert_eq!(socket.uid(), owner);
}

/// As root, repeats the first test in a copy of this binary that runs as `nobody`. If the tests run
/// as an ordinary user, the first test has covered this.
#[tokio::test]
async fn an_ordinary_user_needs_no_privileges() {
    if !geteuid().is_root() {
        return it_starts_from_nothing_and_answers_as(geteuid().as_raw()).await;
    }
    let folder = fresh_folder("nobody");
    let binary = folder.join("it");
    // Copied by a process of its own. Other tests fork at any moment: a child would inherit this
    // process's descriptor, and an executable that is open for writing cannot be run.
    let original = std::env::current_exe().expect("this binary");
    let copied = Command::new("cp").arg(original).arg(&binary).status().expect("cp runs");
    assert!(copied.success(), "{copied}");
    let mut command = Command::new(&binary);
    command.args(["--exact", "private_cluster::it_starts_from_nothing_and_answers"]);
    // The usual id of `nobody`; it needs a name, since `initdb` asks for one.
    let output = command.uid(65_534).gid(65_534).current_dir("/tmp").output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

async fn it_starts_from_nothing_and_answers_as(uid: u32) {
    let folder = fresh_folder("ordinary");
    let cluster = start(&folder).await;
    assert_eq!(fs::metadata(cluster.cluster_dir()).expect("looks").uid(), uid);
    assert_eq!(ask(&cluster.connect_options(SERVICE_DATABASE), "SELECT 'here'").await, "here");
    cluster.stop().await.expect("stops");
}

/// The error names a folder that the server's user cannot enter. Only root starts the server as
/// another user. An ordinary user can enter the folder, so there is no error.
#[tokio::test]
async fn a_folder_that_the_servers_user_cannot_reach_is_named() {
    let folder = fresh_folder("closed");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("closes");
    match PrivateCluster::start(options_in(&folder)).await {
        Ok(cluster) if !geteuid().is_root() => cluster.stop().await.expect("stops"),
        Ok(_) => panic!("as root it must be refused"),
        Err(error) => {
            let message = error.to_string();
            assert!(matches!(error, ClusterError::Unreachable { .. }), "{message}");
            assert!(message.contains(&format!("of the folder {}:", folder.display())), "{message}");
            assert!(!options_in(&folder).data_dir.exists(), "something was made");
        }
    }
}

/// A command that runs as the user of this folder's server.
fn as_server_user(folder: &Path, program: &str) -> Command {
    let cluster = fs::metadata(options_in(folder).data_dir.join("postgres")).expect("looks");
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(cluster.uid()).gid(cluster.gid()).current_dir("/");
    }
    command
}
