//! Copies a running cluster into a data folder of its own.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use tokio::process::Command;

use super::connect::SUPERUSER_ROLE;
use super::error::{AtPath, ClusterError};
use super::folder::DataFolder;
use super::initdb::{failure, run};
use super::launch::Launch;

/// Copies the cluster of `launch` by `pg_basebackup`, with further flags.
pub(super) async fn copy(
    launch: &Launch,
    folder: &DataFolder,
    flags: &[&str],
) -> Result<(), ClusterError> {
    let Launch { binaries, user, socket_dir, .. } = launch;
    let cluster = folder.cluster();
    DirBuilder::new().mode(0o700).create(&cluster).at("create", &cluster)?;
    user.give(&cluster)?;
    let mut copying = Command::from(user.command(binaries.program("pg_basebackup")));
    copying.arg("--pgdata").arg(&cluster).arg("--host").arg(socket_dir);
    copying.args(["--username", SUPERUSER_ROLE, "--checkpoint=fast"]).args(flags);
    match failure(run(copying, "").await) {
        None => Ok(()),
        Some(reason) => Err(ClusterError::CopyFailed { path: folder.path().to_owned(), reason }),
    }
}
