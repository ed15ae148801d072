//! The data folder: is it ours, is it free, and what lies where in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;

use super::error::{AtPath, ClusterError};
use super::server_user::ServerUser;

/// The first file that is made in a data folder, and so the sign that it is ours.
const LOCK_FILE: &str = "plimsoll.lock";

/// How the names of clusters in the making begin.
const UNFINISHED: &str = "postgres.new-";

/// A data folder that is ours and locked for us, for as long as this value lives.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes the folder: makes it where it is missing, refuses it where it is not ours or in use.
    /// A refused folder is left exactly as it was.
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

    /// A place to make a cluster, to be renamed to [`Self::cluster`] when it is whole. Each one is
    /// new: an `initdb` whose service was killed may still be writing to its own.
    pub(super) fn unfinished_cluster(&self) -> PathBuf {
        self.path.join(format!("{UNFINISHED}{:016x}", fastrand::u64(..)))
    }

    /// What starts before left unfinished.
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

/// Where the cluster of a data folder lies.
pub(super) fn cluster_in(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

/// Whether the folder is missing or empty; an error where it holds something that is not ours.
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
        // The root of a freshly made file system holds this one.
        if name != "lost+found" {
            let entry = name.to_string_lossy().into_owned();
            return Err(ClusterError::NotOurs { path: path.to_owned(), entry });
        }
    }
    Ok(true)
}

/// Makes the folder and those above it. Another server user must be able to pass through them,
/// whatever our umask says; to list the data folder nobody else needs.
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
    // An empty folder of somebody else's, such as a mounted volume, keeps the mode it has.
    if fs::metadata(path).at("look at", path)?.uid() == geteuid().as_raw() {
        let mode = if user.is_another() { 0o711 } else { 0o700 };
        fs::set_permissions(path, Permissions::from_mode(mode)).at("close", path)?;
    }
    Ok(())
}

/// The kernel releases the lock when its holder ends, however it ends. The pid in the file only
/// tells others who that is.
fn lock(data_dir: &Path) -> Result<File, ClusterError> {
    let path = data_dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // As root in a folder of somebody else's, a link must not lead us to another file.
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .at("open", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).at("read", &path)?;
            // Empty for the moment between its lock and its first write.
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
