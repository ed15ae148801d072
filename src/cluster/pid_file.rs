//! `postmaster.pid`: the process and the status of the server of a cluster.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::error::{AtPath, ClusterError};

/// A live postmaster of a given cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    pub(super) status: Status,
    pub(super) socket_dir: PathBuf,
    /// The TCP address that the server listens on, if any.
    pub(super) listens_on: Option<String>,
    cluster: PathBuf,
}

/// The status that a postmaster reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Starting up or recovering.
    Starting,
    Ready,
    Stopping,
}

/// Never the id of a process: kernels assign only smaller ids.
const NO_PROCESS: &str = "2147483647";

impl Postmaster {
    /// The live postmaster of this cluster, if any. A pid file that was copied with its folder does
    /// not count, nor one whose pid now belongs to another program.
    pub(super) fn of(cluster: &Path) -> Option<Self> {
        let text = fs::read_to_string(file_in(cluster)).ok()?;
        let line = |number: usize| text.lines().nth(number - 1).unwrap_or_default();
        if Path::new(line(2)) != cluster {
            return None;
        }
        let status = match line(8).trim() {
            "ready" | "standby" => Status::Ready,
            "stopping" => Status::Stopping,
            _ => Status::Starting,
        };
        let found = Self {
            pid: line(1).trim().parse().ok()?,
            status,
            socket_dir: PathBuf::from(line(5)),
            listens_on: Some(line(6)).filter(|address| !address.is_empty()).map(str::to_owned),
            cluster: cluster.to_owned(),
        };
        found.is_alive().then_some(found)
    }

    /// Whether the process still exists and still runs on this cluster.
    pub(super) fn is_alive(&self) -> bool {
        process_exists(self.pid) && runs_on(self.pid, &self.cluster)
    }

    /// Sends a signal, unless the process is gone.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), ClusterError> {
        let Some(pid) = to_pid(self.pid).filter(|_| self.is_alive()) else { return Ok(()) };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(io::Error::from(error)).at("signal the server of", &self.cluster),
        }
    }

    /// Kills stopped backends (SIGSTOP, a debugger): they cannot react to a shutdown, which would
    /// wait for ever. The server treats this as a crash and recovers at its next start.
    pub(super) fn kill_stopped_backends(&self) {
        if !self.is_alive() {
            return;
        }
        for pid in stopped_children(self.pid).into_iter().filter_map(to_pid) {
            // An error is harmless: a backend that was continued meanwhile exits by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(target_os = "linux")]
fn stopped_children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let is_stopped = |child: &u32| {
        // The state follows the name, which is in parentheses and may hold any character.
        fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| {
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
        })
    };
    let children = children.unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_stopped).collect()
}

#[cfg(not(target_os = "linux"))]
fn stopped_children(_: u32) -> Vec<u32> {
    Vec::new()
}

/// Whether a pid file exists: the last server was not shut down cleanly, or still runs.
pub(super) fn is_left_over(cluster: &Path) -> bool {
    file_in(cluster).exists()
}

/// Defuses the lock files of a dead server. Call it only after [`Postmaster::of`] found none.
///
/// PostgreSQL trusts a lock file if its pid is in use by any program, as is common after a restart
/// of a container. So the pid is replaced. The file stays: it also names the shared memory by which
/// PostgreSQL detects running backends of the dead server, and this check must stay.
pub(super) fn disarm(cluster: &Path, socket_dir: &Path) -> Result<(), ClusterError> {
    let path = file_in(cluster);
    match read_if_there(&path)? {
        Some(text) if !text.contains('\n') => {
            // Truncated by a power failure. PostgreSQL would refuse this file at every start.
            fs::remove_file(&path).at("remove", &path)?;
        }
        Some(text) => replace_pid(&path, &text)?,
        None => {}
    }
    let path = socket_dir.join(".s.PGSQL.5432.lock");
    // The socket folder belongs to this cluster alone, so no process named here uses the socket.
    // The file may have been copied with the folder.
    match read_if_there(&path)? {
        Some(text) => replace_pid(&path, &text),
        None => Ok(()),
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, ClusterError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at("read", path),
    }
}

/// If the pid of a lock file is in use, replaces it with a pid that never is.
fn replace_pid(path: &Path, text: &str) -> Result<(), ClusterError> {
    let (pid, rest) = text.split_once('\n').unwrap_or((text, ""));
    if !pid.trim().parse().is_ok_and(process_exists) {
        return Ok(());
    }
    // A root process must not follow a link in the folder of the server's user.
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.write(true).truncate(true).custom_flags(no_link).open(path);
    file.and_then(|mut file| write!(file, "{NO_PROCESS}\n{rest}")).at("write", path)
}

fn file_in(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn process_exists(pid: u32) -> bool {
    // A refused signal also proves that the process exists.
    to_pid(pid).is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Whether the process was started on this cluster: the folder is one of its arguments. Unlike the
/// working folder of a process, its arguments are readable without privileges, even in a container.
/// A zombie has no arguments.
#[cfg(target_os = "linux")]
fn runs_on(pid: u32, cluster: &Path) -> bool {
    let wanted = cluster.as_os_str().as_encoded_bytes();
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|arguments| arguments.split(|byte| *byte == 0).any(|each| each == wanted))
}

#[cfg(not(target_os = "linux"))]
fn runs_on(pid: u32, cluster: &Path) -> bool {
    let output = std::process::Command::new("ps")
        .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
        .output();
    output.is_ok_and(|ps| String::from_utf8_lossy(&ps.stdout).contains(&*cluster.to_string_lossy()))
}
