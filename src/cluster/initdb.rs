//! Creates a new cluster atomically.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::binaries::Binaries;
use super::connect::SUPERUSER_ROLE;
use super::error::{AtPath, ClusterError};
use super::folder::DataFolder;
use super::log_file::last_meaningful_line;
use super::server_user::ServerUser;

/// The role and the database that the service connects to (`connect.rs`). A server in single-user
/// mode takes each line as a statement.
const ROLE_AND_DATABASE: &str = r"
CREATE ROLE plimsoll LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
CREATE DATABASE plimsoll OWNER plimsoll;
";

/// Creates the cluster with its roles and database under a temporary name and renames it when it is
/// complete, so that a crash leaves nothing that looks like a cluster.
pub(super) async fn make_cluster(
    folder: &DataFolder,
    binaries: &Binaries,
    user: ServerUser,
) -> Result<(), ClusterError> {
    let unfinished = folder.unfinished_cluster();
    tracing::info!(data_dir = %folder.path().display(), postgres = binaries.major, "making a PostgreSQL cluster");
    for abandoned in folder.abandoned_clusters()? {
        // This may fail while its `initdb` still writes; then a later start removes the rest.
        if let Err(error) = fs::remove_dir_all(&abandoned) {
            tracing::warn!(folder = %abandoned.display(), %error, "could not remove an unfinished cluster");
        }
    }
    DirBuilder::new().mode(0o700).create(&unfinished).at("create", &unfinished)?;
    user.give(&unfinished)?;

    let mut initdb = Command::from(user.command(binaries.program("initdb")));
    initdb.arg("--pgdata").arg(&unfinished);
    initdb.arg("--username").arg(SUPERUSER_ROLE);
    initdb.args([
        // The server trusts every client of the socket; the mode of its folder (0700) is the guard.
        "--auth-local=trust",
        // There is no TCP. If it were switched on, it would admit nobody.
        "--auth-host=reject",
        "--encoding=UTF8",
        // Sorts by bytes, the same on every system and after every upgrade. The rules of a system's
        // locale may change, which corrupts indexes. Needs no installed locale.
        "--locale=C",
        // Detects corruption by the disk instead of serving it.
        "--data-checksums",
        "--no-instructions",
    ]);
    check(run(initdb, "").await, folder)?;

    // Single-user mode has no socket, so no client ever sees an incomplete cluster.
    let mut single = Command::from(user.command(binaries.program("postgres")));
    single.args(["--single", "-c", "exit_on_error=on", "-D"]).arg(&unfinished).arg("postgres");
    check(run(single, ROLE_AND_DATABASE).await, folder)?;

    fs::rename(&unfinished, folder.cluster()).at("put in place", &unfinished)?;
    // The rename must survive a power failure; otherwise the cluster would be created again.
    File::open(folder.path()).and_then(|dir| dir.sync_all()).at("sync", folder.path())
}

/// Runs the command to its end. Dropping the future kills it: half a cluster is of no use.
pub(super) async fn run(mut command: Command, input: &str) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()).await {
            // A command that ended before it read its input explains why on stderr.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait_with_output().await
}

fn check(ended: io::Result<Output>, folder: &DataFolder) -> Result<(), ClusterError> {
    match failure(ended) {
        None => Ok(()),
        Some(reason) => Err(ClusterError::InitFailed { path: folder.path().to_owned(), reason }),
    }
}

/// Why the command has failed, if it has.
pub(super) fn failure(ended: io::Result<Output>) -> Option<String> {
    match ended {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(last_meaningful_line(&String::from_utf8_lossy(&output.stderr))),
        Err(error) => Some(error.to_string()),
    }
}
