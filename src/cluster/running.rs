//! Reaching a server that another instance runs, without taking its data folder.

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

/// Whether a cluster was made in this data folder. Changes nothing.
pub fn has_cluster(data_dir: &Path) -> Result<bool, ClusterError> {
    let path = cluster_in(data_dir);
    path.try_exists().at("look at", &path)
}

/// How to connect to the server of this data folder as [`SERVICE_ROLE`] while another instance
/// holds the folder, waiting for one that is just starting. `None` when no server is ready in time.
///
/// The server stays the other instance's: it ends when that one stops.
///
/// # Errors
/// [`ClusterError::WrongOwner`] when it is another user's, and
/// [`ClusterError::SocketFolderNotPrivate`] when others could have put a socket there.
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
        // As root that is the server's own user, or root itself: both may make the socket.
        let user = ServerUser::choose(&cluster)?;
        socket_folder::check_private(&socket_dir, user)
    })
    .await?;
    Ok(Some(options))
}
