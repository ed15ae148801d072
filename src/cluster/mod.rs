//! The embedded default: a PostgreSQL of our own.
//!
//! Where no `DATABASE_URL` is given, the service runs a private PostgreSQL: made once in the
//! data folder, reachable only through a Unix socket in a folder of mode 0700, never over TCP.
//!
//! ```text
//! DATA_DIR/plimsoll.lock   held by the one instance that uses the folder; also says it is ours
//! DATA_DIR/postgres/       the cluster
//! DATA_DIR/postgres.new-*  a cluster in the making; renamed when whole, thrown away otherwise
//! DATA_DIR/socket/         the socket (elsewhere when this path is too long for one)
//! DATA_DIR/postgres.log    what the server says
//! ```
//!
//! What stays true:
//! - A folder that holds anything we did not make is refused and left as it is.
//! - A process is signalled only when the pid file of our folder names it and it runs on that
//!   very folder.
//! - The server is not tied to the service's life: after `kill -9` of the service it goes on, and
//!   the next start re-attaches. Only [`PrivateCluster::stop`] ends it.
//! - The server never runs as root. Started as root, it runs as the user `postgres`, or `nobody`.

mod binaries;
mod connect;
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

/// What a private cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `DATA_DIR`: the folder for all of it. Made where it is missing.
    pub data_dir: PathBuf,
    /// `PG_BIN`: the folder of `postgres` and `initdb`. Where it is `None` they are looked for.
    pub pg_bin: Option<PathBuf>,
    /// Further settings of the server, which win over the built-in ones. For tests.
    pub settings: Vec<(String, String)>,
}

/// A PostgreSQL server of our own. Dropping it leaves the server running, see the module.
#[derive(Debug)]
pub struct PrivateCluster {
    folder: DataFolder,
    binaries: Binaries,
    user: ServerUser,
    socket_dir: PathBuf,
    settings: Vec<(String, String)>,
    lifecycle: Mutex<Lifecycle>,
}

#[derive(Debug, PartialEq, Eq)]
enum Lifecycle {
    Wanted,
    Stopped,
}

impl PrivateCluster {
    /// Makes the cluster where there is none yet, and starts it, or re-attaches to it where it
    /// already runs. Returns when it accepts connections.
    ///
    /// A dropped future may leave the server running; the next start re-attaches to it.
    ///
    /// # Errors
    /// Says in one line what is wrong and what would be right.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let cluster = blocking(move || Self::prepare(options)).await?;
        if !cluster.folder.has_cluster() {
            initdb::make_cluster(&cluster.folder, &cluster.binaries, cluster.user).await?;
        }
        cluster.launch().ensure_running().await?;
        Ok(cluster)
    }

    /// How the service connects: as [`SERVICE_ROLE`], which is not a superuser.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        options_for(&self.socket_dir, SERVICE_ROLE, database)
    }

    /// How tests and maintenance connect: as the superuser.
    pub fn superuser_options(&self, database: &str) -> PgConnectOptions {
        options_for(&self.socket_dir, SUPERUSER_ROLE, database)
    }

    /// The process id of the running postmaster, if it runs.
    pub fn postmaster_pid(&self) -> Option<u32> {
        Postmaster::of(&self.folder.cluster()).map(|postmaster| postmaster.pid)
    }

    /// The folder of the Unix socket: mode 0700, owned by the server's user.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The folder of the binaries in use: `postgres`, and its companions such as `pgbench`.
    pub fn bin_dir(&self) -> &Path {
        &self.binaries.dir
    }

    /// The server's own data folder, `DATA_DIR/postgres`.
    pub fn cluster_dir(&self) -> PathBuf {
        self.folder.cluster()
    }

    /// Whether the postmaster of this data folder is alive. Cheap: reads two small files.
    pub fn is_running(&self) -> bool {
        self.postmaster_pid().is_some()
    }

    /// Starts the server again where its postmaster died; left-over backends are waited for.
    /// Returns whether it had to. After [`Self::stop`] it stays down and this returns `false`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart_if_dead(&self) -> Result<bool, ClusterError> {
        let lifecycle = self.lifecycle.lock().await;
        if *lifecycle == Lifecycle::Stopped || self.is_running() {
            return Ok(false);
        }
        tracing::warn!(data_dir = %self.folder.path().display(), "PostgreSQL is gone, starting it again");
        self.launch().ensure_running().await?;
        Ok(true)
    }

    /// Stops the server: sessions end, a checkpoint is written, the next start needs no recovery.
    /// Calling it again does nothing.
    ///
    /// # Errors
    /// [`ClusterError::StillRunning`] when it does not end in time.
    pub async fn stop(&self) -> Result<(), ClusterError> {
        // A fast shutdown waits for its checkpoint. One that does not end (a backend that hangs
        // in the kernel) is followed by an immediate one: as safe, the next start recovers.
        const STEPS: [(Signal, Duration); 2] =
            [(Signal::INT, Duration::from_secs(30)), (Signal::QUIT, Duration::from_secs(15))];

        /// A backend that is stopped is given so long to be let go on.
        const STOPPED_MAX: Duration = Duration::from_secs(1);

        let mut lifecycle = self.lifecycle.lock().await;
        *lifecycle = Lifecycle::Stopped;
        let Some(postmaster) = Postmaster::of(&self.folder.cluster()) else { return Ok(()) };
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

    /// Everything before the first process of the server: may wait for the disk, never for long.
    fn prepare(options: ClusterOptions) -> Result<Self, ClusterError> {
        let ClusterOptions { data_dir, pg_bin, settings } = options;
        let user = ServerUser::choose(&folder::cluster_in(&data_dir))?;
        user.check_reaches_parent_of(&data_dir)?;
        let folder = DataFolder::claim(&data_dir, user)?;
        user.check_reaches(folder.path())?;
        let binaries = Binaries::find(pg_bin.as_deref(), &folder)?;
        user.check_reaches(&binaries.dir)?;
        let socket_dir = socket_folder::prepare(&folder, user)?;
        let lifecycle = Mutex::new(Lifecycle::Wanted);
        Ok(Self { folder, binaries, user, socket_dir, settings, lifecycle })
    }

    fn launch(&self) -> Launch<'_> {
        Launch {
            folder: &self.folder,
            binaries: &self.binaries,
            user: self.user,
            socket_dir: &self.socket_dir,
            settings: &self.settings,
        }
    }
}
