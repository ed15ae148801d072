//! Clocks that can be set, by libfaketime: one for the database server, one for the instances.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::faults::error::FaultError;

const LIBRARY: &str = "libfaketimeMT.so.1";

/// The two clocks.
pub(crate) struct Clocks {
    library: PathBuf,
    folder: PathBuf,
}

/// A clock that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Database,
    Service,
}

/// Why there can be none.
pub(crate) fn obstacle() -> Option<&'static str> {
    library().is_none().then_some("there is no libfaketime (scripts/setup faults)")
}

impl Clocks {
    /// Both clocks begin with the real time.
    pub(super) fn prepare(folder: &Path) -> Result<Self, FaultError> {
        let library = library().ok_or_else(|| {
            FaultError::new("set clocks", obstacle().unwrap_or_default().to_owned())
        })?;
        let clocks = Self { library, folder: folder.to_owned() };
        clocks.set(Clock::Database, 0)?;
        clocks.set(Clock::Service, 0)?;
        Ok(clocks)
    }

    /// Sets a clock, as seconds from the real time. Renamed into place, so that nobody reads half a file.
    pub(crate) fn set(&self, clock: Clock, seconds: i64) -> io::Result<()> {
        let path = self.file(clock);
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, format!("{seconds:+}"))?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o644))?;
        fs::rename(unfinished, path)
    }

    /// The variables of an instance whose clock can be set.
    pub(super) fn of_the_service(&self) -> Vec<(String, String)> {
        self.variables(Clock::Service)
    }

    /// A folder with the programs of the server, of which `postgres` starts with these variables. The
    /// cluster gives its server an empty environment.
    pub(super) fn programs(&self, programs: &Path) -> io::Result<PathBuf> {
        let folder = self.folder.join("bin");
        DirBuilder::new().mode(0o755).create(&folder)?;
        for entry in fs::read_dir(programs)? {
            let entry = entry?;
            if entry.file_name() != "postgres" {
                symlink(entry.path(), folder.join(entry.file_name()))?;
            }
        }
        let mut script = "#!/bin/sh\n".to_owned();
        for (name, value) in self.variables(Clock::Database) {
            script += &format!("export {name}='{value}'\n");
        }
        script += &format!("exec '{}' \"$@\"\n", programs.join("postgres").display());
        let path = folder.join("postgres");
        fs::write(&path, script)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    /// Monotonic clocks stay real, as they do when an administrator sets the time.
    fn variables(&self, clock: Clock) -> Vec<(String, String)> {
        let file = self.file(clock).display().to_string();
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn file(&self, clock: Clock) -> PathBuf {
        self.folder.join(match clock {
            Clock::Database => "clock-database",
            Clock::Service => "clock-service",
        })
    }
}

/// Debian's place first, which names the architecture.
fn library() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut folders: Vec<_> = architectures.map(|entry| entry.path()).collect();
    folders.extend(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join("faketime").join(LIBRARY)).find(|it| it.is_file())
}
