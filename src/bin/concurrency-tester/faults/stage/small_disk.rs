//! A small file system in memory, for a cluster whose disk can be filled up.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use crate::faults::error::FaultError;

/// Room for a cluster with little WAL, and for what the load of a round writes.
const SIZE: &str = "384m";

/// A mounted file system. The watchdog unmounts it if this value is not dropped.
pub(super) struct SmallDisk {
    path: PathBuf,
}

/// Why there can be none.
pub(super) fn obstacle() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        return Some("a tmpfs is mounted on Linux only");
    }
    (!geteuid().is_root()).then_some("only root can mount a tmpfs")
}

impl SmallDisk {
    pub(super) fn mount(path: &Path) -> Result<Self, FaultError> {
        DirBuilder::new().mode(0o755).create(path)?;
        let options = format!("size={SIZE},mode=0755");
        let mounting = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .output()?;
        if !mounting.status.success() {
            let why = String::from_utf8_lossy(&mounting.stderr).trim().to_owned();
            return Err(FaultError::new("mount a tmpfs", why));
        }
        // Whatever the umask says: the server's user must be able to pass.
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        Ok(Self { path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is still ending has files open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
