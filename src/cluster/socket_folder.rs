//! The folder of the Unix socket. Its mode is the access control: the server trusts every client
//! of the socket.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::error::{AtPath, ClusterError};
use super::folder::DataFolder;
use super::server_user::ServerUser;

/// The longest path of a socket: 107 bytes on Linux, 103 on macOS. The smaller one everywhere.
const PATH_BYTES_MAX: usize = 103;

/// The name that PostgreSQL appends to the folder's path.
const SOCKET_FILE: &str = "/.s.PGSQL.5432";

/// Creates the socket folder, or checks an existing one. It is in the data folder if the path is
/// short enough and UTF-8, as the driver requires. Otherwise it is in `/tmp`, under a name derived
/// from the data folder. It is the same in every run, whatever `TMPDIR` says, for the re-attaching.
pub(super) fn prepare(folder: &DataFolder, user: ServerUser) -> Result<PathBuf, ClusterError> {
    let path = match folder.socket() {
        path if fits(&path) => path,
        _ => PathBuf::from(format!("/tmp/plimsoll-{}-{}", user.uid, short_hash(folder.path()))),
    };
    make_private(&path, user)?;
    user.check_reaches(&path)?;
    Ok(path)
}

/// Checks that only the user of the server and root can reach the socket. A link is refused: in a
/// folder that others can write to, an attacker could have placed it beforehand.
pub(super) fn check_private(path: &Path, user: ServerUser) -> Result<(), ClusterError> {
    let found = fs::symlink_metadata(path).at("look at", path)?;
    let mode = found.mode() & 0o7777;
    let owner = found.uid();
    let reason = if !found.is_dir() {
        "it is not a folder".to_owned()
    } else if owner != user.uid && owner != geteuid().as_raw() {
        format!("it belongs to the user with id {owner}")
    } else if mode != 0o700 {
        format!("its mode is {mode:04o}")
    } else {
        return Ok(());
    };
    Err(ClusterError::SocketFolderNotPrivate { path: path.to_owned(), reason })
}

/// A short name for a path, the same in every run (FNV-1a, 64 bits). It is no secret, and a
/// collision is harmless: the second server finds the socket taken.
pub(super) fn short_hash(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn make_private(path: &Path, user: ServerUser) -> Result<(), ClusterError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).at("create", path),
    }
    check_private(path, user)?;
    // Also repairs a start as root that ended between the creation and this line.
    user.give(path)
}

fn fits(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.len() + SOCKET_FILE.len() <= PATH_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_up_to_the_limit_of_the_smaller_system() {
        let longest = "/".repeat(PATH_BYTES_MAX - SOCKET_FILE.len());
        assert!(fits(Path::new(&longest)));
        assert!(!fits(Path::new(&format!("{longest}/"))));
    }

    #[test]
    fn the_short_hash_never_changes() {
        assert_eq!(short_hash(Path::new("")), "cbf29ce484222325");
        assert_eq!(short_hash(Path::new("a")), "af63dc4c8601ec8c");
    }
}
