//! Connects to the server of another instance without locking its data folder.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use super::connect::{SERVICE_ROLE, options_for};
use super::error::{AtPath, ClusterError};
use super::folder::cluster_in;
use super::pid_file::{Postmaster, Status};
use super::server_user::ServerUser;
use super::socket_folder;
use super::waiting::{blocking, wait_until};

/// Whether this data folder has a cluster. Changes nothing.
pub fn has_cluster(data_dir: &Path) -> Result<bool, ClusterError> {
    let path = cluster_in(data_dir);
    path.try_exists().at("look at", &path)
}

/// Options to connect as [`SERVICE_ROLE`] to the server of a data folder that another instance
/// holds. Waits for a server that is starting. Returns `None` if no server is ready in time.
///
/// The other instance keeps control of the server, and stops it when it stops itself.
///
/// # Errors
/// [`ClusterError::WrongOwner`] if the cluster belongs to another user, and
/// [`ClusterError::SocketFolderNotPrivate`] if others could have placed a socket there.
pub async fn attach_running(
    data_dir: &Path,
    database: &str,
    patience: Duration,
) -> Result<Option<PgConnectOptions>, ClusterError> {
    let data_dir = data_dir.canonicalize().at("resolve", data_dir)?;
    let cluster = cluster_in(&data_dir);
    let ready = || Postmaster::of(&cluster).filter(|found| found.status == Status::Ready);
    wait_until(patience, || ready().is_some()).await;
    let Some(postmaster) = ready() else { return Ok(None) };
    let socket_dir = postmaster.socket_dir;
    let options = options_for(&socket_dir, SERVICE_ROLE, database);
    blocking(move || {
        // For root, this is the user of the server, or root itself. Both may create the socket.
        let user = ServerUser::choose(&cluster)?;
        socket_folder::check_private(&socket_dir, user)
    })
    .await?;
    Ok(Some(options))
}
