//! The user of the server's processes: our own, or an unprivileged one if we are root.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use super::error::{AtPath, ClusterError};

/// The user of the server's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    /// The group to switch to together with the user; `None` if the user is our own.
    switch_to_group: Option<u32>,
}

impl ServerUser {
    /// The owner of an existing cluster. For a new cluster our own user, or as root `postgres`, or
    /// `nobody` if there is no such user: PostgreSQL refuses to run as root.
    pub(super) fn choose(cluster: &Path) -> Result<Self, ClusterError> {
        let owner = match fs::metadata(cluster) {
            Ok(metadata) => Some((metadata.uid(), metadata.gid())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at("look at", cluster),
        };
        let us = geteuid().as_raw();
        match owner {
            Some((owner, group)) if us == 0 && owner != 0 => {
                Ok(Self { uid: owner, switch_to_group: Some(group) })
            }
            _ if us == 0 => ["postgres", "nobody"]
                .into_iter()
                .find_map(Self::named)
                .ok_or(ClusterError::NoServerUser),
            Some((owner, _)) if owner != us => {
                Err(ClusterError::WrongOwner { path: cluster.to_owned(), owner })
            }
            _ => Ok(Self { uid: us, switch_to_group: None }),
        }
    }

    /// Whether this is a user other than our own, which is the case exactly when we are root.
    pub(super) fn is_another(self) -> bool {
        self.switch_to_group.is_some()
    }

    /// A command that runs as this user. It inherits no environment, which may hold secrets and
    /// `PG…` variables. It starts in `/`, since our working folder may be closed to this user.
    pub(super) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        if let Some(gid) = self.switch_to_group {
            // Also drops root's supplementary groups.
            command.uid(self.uid).gid(gid);
        }
        command
    }

    /// Makes this user the owner of a file or folder that we own.
    pub(super) fn give(self, path: &Path) -> Result<(), ClusterError> {
        match self.switch_to_group {
            Some(gid) => lchown(path, Some(self.uid), Some(gid)).at("change the owner of", path),
            None => Ok(()),
        }
    }

    /// Checks that this user can pass through every folder up to `path`, and through `path` itself.
    pub(super) fn check_reaches(self, path: &Path) -> Result<(), ClusterError> {
        match self.blocked_by(path) {
            Some(blocking) => {
                let path = path.to_owned();
                Err(ClusterError::Unreachable { path, blocking, uid: self.uid })
            }
            None => Ok(()),
        }
    }

    /// Checks the parent folders of `path`, which may not exist yet.
    pub(super) fn check_reaches_parent_of(self, path: &Path) -> Result<(), ClusterError> {
        let path = std::path::absolute(path).at("resolve", path)?;
        path.parent().map_or(Ok(()), |parent| self.check_reaches(parent))
    }

    /// The first folder on the way to `path` that this user cannot pass. The test runs as this
    /// user, so that access lists and the like count. Folders that do not exist yet do not block.
    pub(super) fn blocked_by(self, path: &Path) -> Option<PathBuf> {
        if !self.is_another() {
            return None;
        }
        let mut folders: Vec<&Path> = path.ancestors().filter(|folder| folder.exists()).collect();
        folders.reverse();
        folders.into_iter().find(|folder| !self.may_pass(folder)).map(Path::to_owned)
    }

    fn may_pass(self, folder: &Path) -> bool {
        let script = r#"test -x "$1""#;
        let mut command = self.command("/bin/sh");
        let command = command.args(["-c", script, "sh"]).arg(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn named(name: &str) -> Option<Self> {
        let uid = id_of("-u", name)?;
        let gid = id_of("-g", name)?;
        (uid != 0).then_some(Self { uid, switch_to_group: Some(gid) })
    }
}

/// Runs the `id` command, the only portable access to the user database without foreign code.
fn id_of(which: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
