//! The data folder: ownership, lock and layout.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;

use super::error::{AtPath, ClusterError};
use super::server_user::ServerUser;

/// The first file created in a data folder. It marks the folder as Plimsoll's.
const LOCK_FILE: &str = "plimsoll.lock";

/// The prefix of the names of unfinished clusters.
const UNFINISHED: &str = "postgres.new-";

/// A data folder, locked for this process until the value is dropped.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if it is missing, and locks it. A folder that is in use or not Plimsoll's
    /// is refused and left unchanged.
    pub(super) fn claim(path: &Path, user: ServerUser) -> Result<Self, ClusterError> {
        if is_new(path)? {
            make(path, user)?;
        }
        let path = path.canonicalize().at("resolve", path)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder itself, absolute and without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The server's own data folder.
    pub(super) fn cluster(&self) -> PathBuf {
        cluster_in(&self.path)
    }

    /// A path for an unfinished cluster, which is renamed to [`Self::cluster`] when complete. Each
    /// path is new: the `initdb` of a killed service may still be writing to its own.
    pub(super) fn unfinished_cluster(&self) -> PathBuf {
        self.path.join(format!("{UNFINISHED}{:016x}", fastrand::u64(..)))
    }

    /// Unfinished clusters of earlier starts.
    pub(super) fn abandoned_clusters(&self) -> Result<Vec<PathBuf>, ClusterError> {
        let mut abandoned = Vec::new();
        for entry in fs::read_dir(&self.path).at("read the data folder", &self.path)? {
            let entry = entry.at("read the data folder", &self.path)?;
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                abandoned.push(entry.path());
            }
        }
        Ok(abandoned)
    }

    pub(super) fn has_cluster(&self) -> bool {
        self.cluster().exists()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("socket")
    }
}

/// The path of the cluster of a data folder.
pub(super) fn cluster_in(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

/// Whether the folder is missing or empty. An error if it has content that is not Plimsoll's.
fn is_new(path: &Path) -> Result<bool, ClusterError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error).at("read the data folder", path),
    };
    if fs::symlink_metadata(path.join(LOCK_FILE)).is_ok_and(|found| found.is_file()) {
        return Ok(false);
    }
    if path.join("PG_VERSION").exists() {
        return Err(ClusterError::ForeignCluster { path: path.to_owned() });
    }
    for entry in entries {
        let name = entry.at("read the data folder", path)?.file_name();
        // The root of a new file system holds this folder.
        if name != "lost+found" {
            let entry = name.to_string_lossy().into_owned();
            return Err(ClusterError::NotOurs { path: path.to_owned(), entry });
        }
    }
    Ok(true)
}

/// Creates the folder and its missing parents. A server that runs as another user must be able to
/// pass through them, whatever the umask. Nobody else needs to list the data folder.
fn make(path: &Path, user: ServerUser) -> Result<(), ClusterError> {
    let path = &std::path::absolute(path).at("resolve", path)?;
    let mut missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    missing.reverse();
    for folder in missing {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).at("create", folder)?;
        if user.is_another() {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).at("open up", folder)?;
        }
    }
    // An empty folder of another owner, such as a mounted volume, keeps its mode.
    if fs::metadata(path).at("look at", path)?.uid() == geteuid().as_raw() {
        let mode = if user.is_another() { 0o711 } else { 0o700 };
        fs::set_permissions(path, Permissions::from_mode(mode)).at("close", path)?;
    }
    Ok(())
}

/// The kernel releases the lock when the process ends, whatever the cause. The pid in the file only
/// names the holder to others.
fn lock(data_dir: &Path) -> Result<File, ClusterError> {
    let path = data_dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A root process must not follow a link in a folder that another user owns.
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .at("open", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).at("read", &path)?;
            // The file is empty until its holder has written the pid.
            let holder = match pid.trim() {
                "" => "just starting".to_owned(),
                pid => format!("pid {pid}"),
            };
            return Err(ClusterError::InUse { path: data_dir.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(error).at("lock", &path),
    }
    file.set_len(0).at("write", &path)?;
    writeln!(file, "{}", std::process::id()).at("write", &path)?;
    Ok(file)
}
