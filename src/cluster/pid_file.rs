//! `postmaster.pid`: which process is the server of a folder, and how far it is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::error::{AtPath, ClusterError};

/// A living postmaster that runs on the folder it was looked up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    pub(super) status: Status,
    pub(super) socket_dir: PathBuf,
    /// The TCP address that it listens on, if any.
    pub(super) listens_on: Option<String>,
    cluster: PathBuf,
}

/// How far a postmaster says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Starting up or recovering.
    Starting,
    Ready,
    Stopping,
}

/// Never the id of a process: kernels give out smaller ones only.
const NO_PROCESS: &str = "2147483647";

impl Postmaster {
    /// The postmaster that runs on this very cluster, if one does. A pid file that was copied
    /// along with a folder, or whose pid is by now another program's, names none.
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

    /// Whether the process still exists and is still the server of this cluster.
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
}

impl Postmaster {
    /// Ends backends that are stopped (SIGSTOP, a debugger): they do not hear that they are to end,
    /// and a shutdown would wait for them for ever. The server takes it for a crash of theirs, and
    /// recovers at its next start.
    pub(super) fn kill_stopped_backends(&self) {
        if !self.is_alive() {
            return;
        }
        for pid in stopped_children(self.pid).into_iter().filter_map(to_pid) {
            // One that went on by now has heard of the shutdown itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(target_os = "linux")]
fn stopped_children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let is_stopped = |child: &u32| {
        // The state follows the name, which is in brackets and may hold anything.
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

/// Whether a pid file is there, that is, whether the last server did not end in order.
pub(super) fn is_left_over(cluster: &Path) -> bool {
    file_in(cluster).exists()
}

/// Makes what a dead server left harmless. To be called only when [`Postmaster::of`] found none.
///
/// PostgreSQL believes a lock file when its pid is in use, by whichever program; after a restart
/// of a container it often is. So the pid is replaced. The file is not removed: it also names the
/// shared memory by which PostgreSQL notices backends of the dead server that still run, and that
/// check must stay.
pub(super) fn disarm(cluster: &Path, socket_dir: &Path) -> Result<(), ClusterError> {
    let path = file_in(cluster);
    match read_if_there(&path)? {
        Some(text) if !text.contains('\n') => {
            // Cut short by a power cut; PostgreSQL would refuse to read it for ever.
            fs::remove_file(&path).at("remove", &path)?;
        }
        Some(text) => replace_pid(&path, &text)?,
        None => {}
    }
    let path = socket_dir.join(".s.PGSQL.5432.lock");
    // The socket folder is this cluster's alone, so whoever the file names is not on this socket:
    // it may be a copy, made along with the folder.
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

/// Where the pid of a lock file is in use, puts one there that never is.
fn replace_pid(path: &Path, text: &str) -> Result<(), ClusterError> {
    let (pid, rest) = text.split_once('\n').unwrap_or((text, ""));
    if !pid.trim().parse().is_ok_and(process_exists) {
        return Ok(());
    }
    // As root in the server user's folder, a link must not lead us to another file.
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.write(true).truncate(true).custom_flags(no_link).open(path);
    file.and_then(|mut file| write!(file, "{NO_PROCESS}\n{rest}")).at("write", path)
}

fn file_in(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn process_exists(pid: u32) -> bool {
    // Not allowed to signal it is an answer, too: it exists.
    to_pid(pid).is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Whether the process was started on this cluster: its folder is one of the arguments. Unlike a
/// process' working folder, arguments are readable without privileges, also in a container. A
/// zombie has none.
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
