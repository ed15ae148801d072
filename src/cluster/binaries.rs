//! Finds the programs of a PostgreSQL server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{AtPath, ClusterError};
use super::folder::DataFolder;
use super::version::{OLDEST_MAJOR, major_of};

/// The folder of project-local binaries, relative to the working folder.
const PROJECT_LOCAL: &str = ".postgres/bin";

/// The folders of installed versions, each with the prefix of a version's name in it.
const SYSTEM: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),                       // Debian, Ubuntu
    ("/usr", "pgsql-"),                                // PostgreSQL's own RPMs
    ("/opt/homebrew/opt", "postgresql@"),              // Homebrew, Apple silicon
    ("/usr/local/opt", "postgresql@"),                 // Homebrew, Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@"), // Homebrew, Linux
];

/// A folder with `postgres` and `initdb`, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The first binaries that match the version of the cluster; without a cluster, of any supported
    /// version. Searches only `PG_BIN` if it is set; otherwise a project-local folder, the system's
    /// versions from the newest down, and `PATH`.
    pub(super) fn find(pg_bin: Option<&Path>, folder: &DataFolder) -> Result<Self, ClusterError> {
        let made_by = version_of_cluster(folder)?;
        let fits = |found: &Self| made_by.as_ref().is_none_or(|v| *v == found.major.to_string());
        let mismatch = |found: String| ClusterError::VersionMismatch {
            path: folder.path().to_owned(),
            made_by: made_by.clone().unwrap_or_default(),
            found,
        };

        if let Some(dir) = pg_bin {
            let found = Self::named_by_user(dir)?;
            return match fits(&found) {
                true => Ok(found),
                false => Err(mismatch(format!("PG_BIN is PostgreSQL {}", found.major))),
            };
        }
        let mut majors = Vec::new();
        for dir in candidates() {
            match Self::probe(&dir) {
                Ok(found) if found.major < OLDEST_MAJOR => {}
                Ok(found) if fits(&found) => return Ok(found),
                Ok(found) => majors.push(found.major.to_string()),
                Err(reason) => tracing::debug!(dir = %dir.display(), reason, "no server binaries"),
            }
        }
        match majors.is_empty() {
            true => Err(ClusterError::NoBinaries),
            false => Err(mismatch(format!("only {} is installed", majors.join(", ")))),
        }
    }

    /// The path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn named_by_user(dir: &Path) -> Result<Self, ClusterError> {
        let bad = |reason| ClusterError::BadPgBin { path: dir.to_owned(), reason };
        let found = Self::probe(&std::path::absolute(dir).at("resolve", dir)?).map_err(bad)?;
        match found.major < OLDEST_MAJOR {
            true => Err(bad(format!("it is PostgreSQL {}", found.major))),
            false => Ok(found),
        }
    }

    fn probe(dir: &Path) -> Result<Self, String> {
        let initdb = dir.join("initdb");
        if !initdb.is_file() {
            return Err(format!("there is no {}", initdb.display()));
        }
        let postgres = dir.join("postgres");
        let output = Command::new(&postgres).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", postgres.display()))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let major = major_of(&answer).ok_or_else(|| {
            format!("`{} --version` answered `{}`", postgres.display(), answer.trim())
        })?;
        Ok(Self { dir: dir.to_owned(), major })
    }
}

fn version_of_cluster(folder: &DataFolder) -> Result<Option<String>, ClusterError> {
    if !folder.has_cluster() {
        return Ok(None);
    }
    let path = folder.cluster().join("PG_VERSION");
    fs::read_to_string(&path).at("read", &path).map(|text| Some(text.trim().to_owned()))
}

fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::from_iter(std::path::absolute(PROJECT_LOCAL).ok());
    for (parent, prefix) in SYSTEM {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        found.extend(versions.into_iter().map(|(_, dir)| dir));
    }
    // `PATH` belongs to the system, not to this service, so it is not part of the configuration.
    // Relative entries are skipped: they depend on the working folder, which nobody intends.
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path).filter(|dir| dir.is_absolute()));
    found.retain(|dir| dir.join("postgres").is_file());
    found
}
