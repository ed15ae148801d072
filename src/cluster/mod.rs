//! The private PostgreSQL, which the service runs when no `DATABASE_URL` is given.
//!
//! The cluster is created once in the data folder. It is reachable only through a Unix socket in a
//! folder of mode 0700, never over TCP.
//!
//! ```text
//! DATA_DIR/plimsoll.lock   locked by the one instance that uses the folder; marks it as Plimsoll's
//! DATA_DIR/postgres/       the cluster
//! DATA_DIR/postgres.new-*  an unfinished cluster; renamed when complete, removed otherwise
//! DATA_DIR/socket/         the socket (elsewhere if this path is too long for a socket)
//! DATA_DIR/postgres.log    the log of the server
//! ```
//!
//! Invariants:
//! - A folder with files that Plimsoll did not make is refused and left unchanged.
//! - A process is signalled only if the pid file of the cluster names it and it runs on this
//!   cluster.
//! - The server outlives the service: after `kill -9` of the service it keeps running, and the next
//!   start re-attaches. Only [`PrivateCluster::stop`] stops it.
//! - The server never runs as root: for root it runs as the user `postgres`, or as `nobody`.

mod binaries;
mod connect;
mod copy;
mod default_folder;
mod error;
mod folder;
mod initdb;
mod launch;
mod log_file;
mod pid_file;
mod running;
mod server_user;
mod settings;
mod socket_folder;
mod version;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;

pub use connect::{SERVICE_DATABASE, SERVICE_ROLE, SUPERUSER_ROLE};
pub use default_folder::default_data_dir;
pub use error::ClusterError;
pub use running::{attach_running, has_cluster};

use binaries::Binaries;
use connect::options_for;
use folder::DataFolder;
use launch::Launch;
use pid_file::Postmaster;
use server_user::ServerUser;
use waiting::{blocking, wait_until};

/// Options of a private cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `DATA_DIR`: the data folder, created if it is missing.
    pub data_dir: PathBuf,
    /// `PG_BIN`: the folder of `postgres` and `initdb`. With `None`, the usual places are searched.
    pub pg_bin: Option<PathBuf>,
    /// Further settings of the server, which override the built-in ones. For tests.
    pub settings: Vec<(String, String)>,
}

/// A private PostgreSQL server. Dropping this value leaves the server running, see the module.
#[derive(Debug)]
pub struct PrivateCluster {
    launch: Launch,
    lifecycle: Mutex<Lifecycle>,
}

#[derive(Debug, PartialEq, Eq)]
enum Lifecycle {
    Wanted,
    Stopped,
}

impl PrivateCluster {
    /// Creates the cluster if there is none, then starts its server, or re-attaches to a running
    /// one. Returns when the server accepts connections.
    ///
    /// Dropping the future may leave the server running; the next start re-attaches to it.
    ///
    /// # Errors
    /// The problem and its remedy, in one line.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let cluster = Self::prepared(options).await?;
        cluster.run().await?;
        Ok(cluster)
    }

    /// As [`start`](Self::start), unless `stop` resolves first. Then it stops what it has started, and
    /// returns `None`. A recovery after a crash may take minutes, and nobody waits for it any more.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_unless(
        options: ClusterOptions,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Self>, ClusterError> {
        let cluster = Self::prepared(options).await?;
        tokio::select! {
            running = cluster.run() => running?,
            () = stop => {
                cluster.stop().await?;
                return Ok(None);
            }
        }
        Ok(Some(cluster))
    }

    async fn prepared(options: ClusterOptions) -> Result<Self, ClusterError> {
        let launch = blocking(move || prepare(options)).await?;
        Ok(Self { launch, lifecycle: Mutex::new(Lifecycle::Wanted) })
    }

    async fn run(&self) -> Result<(), ClusterError> {
        let Launch { folder, binaries, user, .. } = &self.launch;
        if !folder.has_cluster() {
            initdb::make_cluster(folder, binaries, *user).await?;
        }
        self.launch.ensure_running().await
    }

    /// Options to connect as [`SERVICE_ROLE`], which is not a superuser.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        options_for(&self.launch.socket_dir, SERVICE_ROLE, database)
    }

    /// Options to connect as the superuser, for tests and maintenance.
    pub fn superuser_options(&self, database: &str) -> PgConnectOptions {
        options_for(&self.launch.socket_dir, SUPERUSER_ROLE, database)
    }

    /// The process id of the postmaster, if it runs.
    pub fn postmaster_pid(&self) -> Option<u32> {
        Postmaster::of(&self.launch.folder.cluster()).map(|postmaster| postmaster.pid)
    }

    /// The folder of the Unix socket: mode 0700, owned by the server's user.
    pub fn socket_dir(&self) -> &Path {
        &self.launch.socket_dir
    }

    /// The folder of the binaries in use: `postgres`, and its companions such as `pgbench`.
    pub fn bin_dir(&self) -> &Path {
        &self.launch.binaries.dir
    }

    /// The server's own data folder, `DATA_DIR/postgres`.
    pub fn cluster_dir(&self) -> PathBuf {
        self.launch.folder.cluster()
    }

    /// Makes a data folder with a copy of this running cluster, by `pg_basebackup` with these flags. For
    /// tests.
    ///
    /// # Errors
    /// The folder cannot be used, or `pg_basebackup` has failed.
    pub async fn copy_to(&self, data_dir: &Path, flags: &[&str]) -> Result<(), ClusterError> {
        let folder = DataFolder::claim(data_dir, self.launch.user)?;
        copy::copy(&self.launch, &folder, flags).await
    }

    /// Whether the postmaster of this data folder is alive. Cheap: reads two small files.
    pub fn is_running(&self) -> bool {
        self.postmaster_pid().is_some()
    }

    /// Restarts the server if its postmaster died, once left-over backends have ended. Returns
    /// whether it did. After [`Self::stop`] the server stays down and this returns `false`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart_if_dead(&self) -> Result<bool, ClusterError> {
        let lifecycle = self.lifecycle.lock().await;
        if *lifecycle == Lifecycle::Stopped || self.is_running() {
            return Ok(false);
        }
        tracing::warn!(data_dir = %self.launch.folder.path().display(), "PostgreSQL is gone, starting it again");
        self.launch.ensure_running().await?;
        Ok(true)
    }

    /// Stops the server: sessions end, a checkpoint is written, the next start needs no recovery.
    /// Idempotent.
    ///
    /// # Errors
    /// [`ClusterError::StillRunning`] if the server does not stop in time.
    pub async fn stop(&self) -> Result<(), ClusterError> {
        // A fast shutdown waits for its checkpoint. If it hangs (a backend stuck in the kernel), an
        // immediate shutdown follows, which is as safe: the next start recovers.
        const STEPS: [(Signal, Duration); 2] =
            [(Signal::INT, Duration::from_secs(30)), (Signal::QUIT, Duration::from_secs(15))];

        /// How long a stopped backend may take to be continued before it is killed.
        const STOPPED_MAX: Duration = Duration::from_secs(1);

        let mut lifecycle = self.lifecycle.lock().await;
        *lifecycle = Lifecycle::Stopped;
        let Some(postmaster) = Postmaster::of(&self.launch.folder.cluster()) else { return Ok(()) };
        for (signal, patience) in STEPS {
            postmaster.signal(signal)?;
            let asked = Instant::now();
            let is_gone = || {
                if asked.elapsed() > STOPPED_MAX {
                    postmaster.kill_stopped_backends();
                }
                !postmaster.is_alive()
            };
            if wait_until(patience, is_gone).await {
                return Ok(());
            }
        }
        Err(ClusterError::StillRunning { pid: postmaster.pid })
    }
}

/// All steps before the first server process. Blocks on the disk, but never for long.
fn prepare(options: ClusterOptions) -> Result<Launch, ClusterError> {
    let ClusterOptions { data_dir, pg_bin, settings } = options;
    let user = ServerUser::choose(&folder::cluster_in(&data_dir))?;
    user.check_reaches_parent_of(&data_dir)?;
    let folder = DataFolder::claim(&data_dir, user)?;
    user.check_reaches(folder.path())?;
    let binaries = Binaries::find(pg_bin.as_deref(), &folder)?;
    user.check_reaches(&binaries.dir)?;
    let socket_dir = socket_folder::prepare(&folder, user)?;
    Ok(Launch { folder, binaries, user, socket_dir, settings })
}
