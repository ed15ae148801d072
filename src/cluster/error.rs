//! The errors of the private cluster, one line each.

use std::io;
use std::path::{Path, PathBuf};

use super::version::OLDEST_MAJOR;

/// Why the private cluster cannot be used: the problem and its remedy, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is documented by its message")]
pub enum ClusterError {
    #[error(
        "found no PostgreSQL server binaries ({OLDEST_MAJOR} or later): `make setup` installs \
         them; or set PG_BIN to the folder of `postgres` and `initdb`, or DATABASE_URL to a \
         database of yours"
    )]
    NoBinaries,

    #[error(
        "PG_BIN={path} is not usable: {reason}; it must be the folder of the `postgres` and \
         `initdb` of PostgreSQL {OLDEST_MAJOR} or later", path = .path.display()
    )]
    BadPgBin { path: PathBuf, reason: String },

    #[error(
        "the data folder {path} was made by PostgreSQL {made_by}, but {found}: install \
         PostgreSQL {made_by}, or set PG_BIN to its folder, or DATA_DIR to a new folder",
        path = .path.display()
    )]
    VersionMismatch { path: PathBuf, made_by: String, found: String },

    #[error(
        "DATA_DIR={path} is the data folder of another PostgreSQL and was left as it is: set \
         DATA_DIR to an empty or new folder", path = .path.display()
    )]
    ForeignCluster { path: PathBuf },

    #[error(
        "DATA_DIR={path} holds files that Plimsoll did not make (such as `{entry}`) and was left \
         as it is: set DATA_DIR to an empty or new folder", path = .path.display()
    )]
    NotOurs { path: PathBuf, entry: String },

    #[error(
        "the data folder {path} is in use by another instance ({holder}): stop that one, or set \
         DATA_DIR to another folder", path = .path.display()
    )]
    InUse { path: PathBuf, holder: String },

    #[error(
        "the data folder {path} belongs to the user with id {owner}: run as that user, or set \
         DATA_DIR to another folder", path = .path.display()
    )]
    WrongOwner { path: PathBuf, owner: u32 },

    #[error(
        "running as root, PostgreSQL has to run as another user (id {uid}), who cannot reach \
         {path} because of the folder {blocking}: choose a place outside of it, or `chmod o+x` it",
        path = .path.display(), blocking = .blocking.display()
    )]
    Unreachable { path: PathBuf, blocking: PathBuf, uid: u32 },

    #[error(
        "running as root, PostgreSQL has to run as another user, but there is neither `postgres` \
         nor `nobody`: add one of them, or run as an ordinary user"
    )]
    NoServerUser,

    #[error(
        "the socket folder {path} is not private ({reason}): it must be a folder of the server's \
         user with mode 0700; remove it and start again", path = .path.display()
    )]
    SocketFolderNotPrivate { path: PathBuf, reason: String },

    #[error(
        "the PostgreSQL of {path} (pid {pid}) already runs, but was not started by Plimsoll \
         ({reason}): stop it and start again", path = .path.display()
    )]
    StartedByHand { path: PathBuf, pid: u32, reason: String },

    #[error("could not make a PostgreSQL cluster in {path}: {reason}", path = .path.display())]
    InitFailed { path: PathBuf, reason: String },

    #[error("could not copy the PostgreSQL cluster to {path}: {reason}", path = .path.display())]
    CopyFailed { path: PathBuf, reason: String },

    #[error("PostgreSQL did not start: {reason} (more in {log})", log = .log.display())]
    StartFailed { reason: String, log: PathBuf },

    #[error(
        "PostgreSQL (pid {pid}) was not ready after {seconds} s; it may still be recovering, the \
         next start will wait for it again (more in {log})", log = .log.display()
    )]
    NotReady { pid: u32, seconds: u64, log: PathBuf },

    #[error("PostgreSQL (pid {pid}) does not stop: look for what its processes wait for")]
    StillRunning { pid: u32 },

    #[error("could not {what} {path}: {source}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Adds the path to an [`io::Error`].
pub(super) trait AtPath<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, ClusterError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, ClusterError> {
        self.map_err(|source| ClusterError::Io { what, path: path.to_owned(), source })
    }
}
