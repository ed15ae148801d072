//! Attaches to the running server, or starts it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use tokio::process::{Child, Command};

use super::binaries::Binaries;
use super::error::{AtPath, ClusterError};
use super::folder::DataFolder;
use super::log_file::LogFile;
use super::pid_file::{self, Postmaster, Status};
use super::server_user::ServerUser;
use super::waiting::{POLL_EVERY, wait_until};
use super::{settings, socket_folder};

/// Recovery after a crash replays up to `max_wal_size`, which takes long on a slow disk.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Backends of a dead postmaster exit at their next wait, mostly at once. Up to PostgreSQL 14, a
/// process may first wait 10 s for the statistics of each database.
const LEFT_OVERS_GONE_WITHIN: Duration = Duration::from_secs(60);

/// The parameters of a launch.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) folder: DataFolder,
    pub(super) binaries: Binaries,
    pub(super) user: ServerUser,
    pub(super) socket_dir: PathBuf,
    pub(super) settings: Vec<(String, String)>,
}

impl Launch {
    /// Starts or attaches. Returns when the server accepts connections.
    pub(super) async fn ensure_running(&self) -> Result<(), ClusterError> {
        let cluster = &self.folder.cluster();
        // Two cases resolve themselves during the wait: a server that is stopping, and one that was
        // started by a service that died, and has not yet written its pid file.
        let left_over = pid_file::is_left_over(cluster);
        let give_up = Instant::now() + LEFT_OVERS_GONE_WITHIN;
        let mut told = false;
        loop {
            if let Some(postmaster) = Postmaster::of(cluster) {
                if self.attach(postmaster).await? {
                    return Ok(());
                }
                continue;
            }
            pid_file::disarm(cluster, &self.socket_dir)?;
            match self.start().await {
                // Old backends may still be exiting, or another server may have started first.
                Err(ClusterError::StartFailed { reason, .. })
                    if (left_over || Postmaster::of(cluster).is_some())
                        && Instant::now() < give_up =>
                {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(reason, "PostgreSQL does not start yet, trying again");
                    }
                    tokio::time::sleep(POLL_EVERY * 10).await;
                }
                ended => return ended,
            }
        }
    }

    /// Waits for a running server. Returns `true` if it is ready, `false` if it has ended.
    async fn attach(&self, found: Postmaster) -> Result<bool, ClusterError> {
        let cluster = &self.folder.cluster();
        let pid = found.pid;
        let ready_or_gone =
            || Postmaster::of(cluster).is_none_or(|now| now.status == Status::Ready);
        if !wait_until(READY_WITHIN, ready_or_gone).await {
            return Err(self.not_ready(pid));
        }
        let Some(postmaster) = Postmaster::of(cluster) else { return Ok(false) };
        self.check_is_ours(&postmaster)?;
        tracing::info!(pid, "re-attached to the running PostgreSQL");
        Ok(true)
    }

    /// Rejects a server that was started by hand on this folder: it may be open to the network.
    fn check_is_ours(&self, postmaster: &Postmaster) -> Result<(), ClusterError> {
        let reason = if let Some(address) = &postmaster.listens_on {
            format!("it listens on {address}")
        } else if postmaster.socket_dir != self.socket_dir {
            format!("its socket is in {}", postmaster.socket_dir.display())
        } else {
            return socket_folder::check_private(&self.socket_dir, self.user);
        };
        let path = self.folder.path().to_owned();
        Err(ClusterError::StartedByHand { path, pid: postmaster.pid, reason })
    }

    async fn start(&self) -> Result<(), ClusterError> {
        let cluster = &self.folder.cluster();
        let (log, mut starting) = self.spawn()?;
        let give_up = Instant::now() + READY_WITHIN;
        loop {
            let child = &mut starting.child;
            let ended = child.try_wait().at("wait for", &self.binaries.program("postgres"))?;
            if let Some(status) = ended {
                let reason = format!("{} ({status})", log.reason());
                return Err(ClusterError::StartFailed { reason, log: self.folder.log() });
            }
            match Postmaster::of(cluster) {
                Some(found) if child.id() == Some(found.pid) && found.status == Status::Ready => {
                    tracing::info!(pid = found.pid, "PostgreSQL runs");
                    starting.is_left_running = true;
                    return Ok(());
                }
                _ if Instant::now() >= give_up => {
                    starting.is_left_running = true;
                    return Err(self.not_ready(child.id().unwrap_or_default()));
                }
                _ => tokio::time::sleep(POLL_EVERY).await,
            }
        }
    }

    /// Starts the process in a process group of its own. So Ctrl-C in the terminal reaches only the
    /// service, which stops the server after its last request.
    fn spawn(&self) -> Result<(LogFile, Starting), ClusterError> {
        let program = self.binaries.program("postgres");
        let (log, file) = LogFile::open(&self.folder.log())?;
        let for_errors = file.try_clone().at("open", &self.folder.log())?;
        let mut command = self.user.command(&program);
        command.arg("-D").arg(self.folder.cluster());
        for (name, value) in settings::all(&self.socket_dir, &self.settings) {
            let mut setting = OsString::from(name);
            setting.push("=");
            setting.push(value);
            command.arg("-c").arg(setting);
        }
        command.stdout(file).stderr(for_errors);
        let mut command = Command::from(command);
        let child = command.process_group(0).kill_on_drop(false).spawn().at("run", &program)?;
        Ok((log, Starting { child, is_left_running: false }))
    }

    fn not_ready(&self, pid: u32) -> ClusterError {
        ClusterError::NotReady { pid, seconds: READY_WITHIN.as_secs(), log: self.folder.log() }
    }
}

/// A server that is not ready yet. Dropping it asks the server to stop: before the server has written its
/// pid file, nobody else could find it.
struct Starting {
    child: Child,
    is_left_running: bool,
}

impl Drop for Starting {
    fn drop(&mut self) {
        let pid = self.child.id().filter(|_| !self.is_left_running);
        if let Some(pid) = pid.and_then(pid_file::to_pid) {
            // The process is our child and was not waited for, so its id is not used again. An error
            // means that it has just ended.
            let _ = kill_process(pid, Signal::INT);
        }
    }
}
