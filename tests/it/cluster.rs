//! The PostgreSQL that all tests of this binary share, and its temporary folder.
//!
//! Every test gets a database of its own from [`TestCluster::fresh_database`]. It goes with the
//! test, as its folders do, so that the disk need not have room for those of all tests at once. When
//! this process exits, a watchdog process stops every server that is left below the folder and
//! removes the folder. It waits on a pipe that only this process holds, so it notices `kill -9` as
//! well.

use std::cell::RefCell;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use plimsoll::cluster::{ClusterOptions, PrivateCluster, SERVICE_ROLE};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::OnceCell;

/// The cluster of the whole test run.
pub(crate) struct TestCluster {
    cluster: PrivateCluster,
}

/// Returns the shared cluster. The first call starts it.
pub(crate) async fn shared() -> &'static TestCluster {
    static SHARED: OnceCell<TestCluster> = OnceCell::const_new();
    SHARED
        .get_or_init(async || {
            let mut options = options_in(&folder_of_the_run("shared"));
            // Enough for the pools of all tests that run in parallel.
            options.settings.push(("max_connections".into(), "400".into()));
            let cluster = PrivateCluster::start(options).await.expect("the shared cluster starts");
            TestCluster { cluster }
        })
        .await
}

/// Gives the columns defaults, so that a test that plants rows need not name what it is not about.
/// The service names every column itself, and works without them.
pub(crate) const DEFAULTS: &str = "\
    ALTER TABLE users ALTER held SET DEFAULT 0, ALTER changed_at SET DEFAULT '2026-01-01'; \
    ALTER TABLE balance_changes ALTER kind SET DEFAULT 'change', \
        ALTER held_amount SET DEFAULT 0, ALTER held SET DEFAULT 0, \
        ALTER created_at SET DEFAULT '2026-01-01';";

impl TestCluster {
    /// Creates an empty database that belongs to the service's role. Returns how the service
    /// connects to it. It is dropped after the test of this thread.
    pub(crate) async fn fresh_database(&self) -> PgConnectOptions {
        let name = format!("t{}", next_number());
        let mut connection =
            self.cluster.superuser_options("postgres").connect().await.expect("connects");
        let ended = std::mem::take(&mut *ENDED_DATABASES.lock().expect("no test panics in here"));
        for name in ended {
            connection
                .execute(format!("DROP DATABASE {name} WITH (FORCE)").as_str())
                .await
                .expect("drops a database");
        }
        MADE.with_borrow_mut(|made| made.databases.push(name.clone()));
        connection
            .execute(format!("CREATE DATABASE {name} OWNER {SERVICE_ROLE}").as_str())
            .await
            .expect("creates a database");
        connection.close().await.expect("disconnects");
        self.cluster.connect_options(&name)
    }

    /// The server itself, for tests that need its binaries or its superuser. All tests share it: a
    /// test that stops or kills a server starts one of its own.
    pub(crate) fn private_cluster(&self) -> &PrivateCluster {
        &self.cluster
    }
}

/// A new empty folder. After the test of this thread it is removed, and its server stopped.
pub(crate) fn fresh_folder(name: &str) -> PathBuf {
    let folder = folder_of_the_run(name);
    MADE.with_borrow_mut(|made| made.folders.push(folder.clone()));
    folder
}

/// A new empty folder for something that all tests share: it is there until this process exits.
pub(crate) fn folder_of_the_run(name: &str) -> PathBuf {
    let folder = watched_folder().join(format!("{}-{name}", next_number()));
    DirBuilder::new().mode(0o755).create(&folder).expect("creates a folder");
    folder
}

/// A cluster in `DATA_DIR` = `<folder>/data`, with the binaries found on this machine.
pub(crate) fn options_in(folder: &Path) -> ClusterOptions {
    ClusterOptions { data_dir: folder.join("data"), pg_bin: None, settings: Vec::new() }
}

/// What the test of this thread made. The test runner gives each test a thread of its own (with
/// `--test-threads=1` it does not, and everything is there until the end).
#[derive(Default)]
struct Made {
    databases: Vec<String>,
    folders: Vec<PathBuf>,
}

thread_local! {
    static MADE: RefCell<Made> = RefCell::default();
}

/// Databases whose tests have ended. The next test that needs one drops them.
static ENDED_DATABASES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Drop for Made {
    fn drop(&mut self) {
        ENDED_DATABASES.lock().expect("no test panics in here").append(&mut self.databases);
        for folder in &self.folders {
            // What cannot be removed is left to the watchdog.
            let _ = removal(folder, "").stdin(Stdio::null()).status();
        }
    }
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn watched_folder() -> &'static Path {
    static WATCHED: LazyLock<(PathBuf, Child)> = LazyLock::new(|| {
        // Short, because it holds sockets. Traversable, because root runs the servers as another
        // user.
        let folder = PathBuf::from(format!("/tmp/plimsoll-it-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        DirBuilder::new().mode(0o755).create(&folder).expect("creates the tests' folder");
        let watchdog = watchdog(&folder);
        (folder, watchdog)
    });
    &WATCHED.0
}

/// `read` returns when the last writer of the pipe has exited. That is this process: its handle is
/// closed on exec, so no server inherits it. In its own process group, the watchdog survives a Ctrl-C
/// in the terminal.
fn watchdog(folder: &Path) -> Child {
    removal(folder, "read -r _")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("starts the watchdog")
}

/// A process that does `first`, stops the servers in a folder and in the folders in it, and removes
/// the folder. SIGQUIT stops a server without a clean shutdown, which is enough because its files are
/// removed.
fn removal(folder: &Path, first: &str) -> Command {
    const SCRIPT: &str = r#"
        for file in "$1"/data/postgres/postmaster.pid "$1"/*/data/postgres/postmaster.pid; do
            test -f "$file" || continue
            pid=$(head -n 1 "$file")
            kill -QUIT "$pid" 2>/dev/null || continue
            for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                kill -0 "$pid" 2>/dev/null || break
                sleep 0.1
            done
        done
        rm -rf "$1"
    "#;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("{first}\n{SCRIPT}"), "removal"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
