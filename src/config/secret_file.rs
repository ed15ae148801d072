//! Files that the environment names, some of which hold a secret.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::ConfigError;

/// The longest file that is read, in bytes. A mistaken path must not fill the memory.
const BYTES_MAX: u64 = 1024 * 1024;

/// A file that a variable names. Its errors name both.
#[derive(Clone, Debug)]
pub struct NamedFile {
    variable: &'static str,
    path: PathBuf,
}

impl NamedFile {
    pub(super) fn new(variable: &'static str, path: String) -> Self {
        Self { variable, path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. Blocks.
    ///
    /// # Errors
    /// It cannot be read, is no regular file, or is longer than 1 MiB.
    pub fn read(&self) -> Result<Vec<u8>, ConfigError> {
        self.open().map(|(content, _)| content)
    }

    /// As [`Self::read`], and warns if other users can read it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_secret(&self) -> Result<Vec<u8>, ConfigError> {
        let (content, is_exposed) = self.open()?;
        if is_exposed {
            let (variable, file) = (self.variable, self.path.display());
            warn!(%file, "{variable}: other users can read or change this file: chmod 600 it");
        }
        Ok(content)
    }

    /// The error that its content is not usable. Must not quote the content.
    pub fn unusable(&self, problem: impl Into<String>) -> ConfigError {
        let (variable, path) = (self.variable, self.path.clone());
        ConfigError::NamedFile { variable, path, problem: problem.into() }
    }

    fn open(&self) -> Result<(Vec<u8>, bool), ConfigError> {
        let unreadable = |error: io::Error| self.unusable(format!("cannot be read: {error}"));
        // Before it is opened, because opening a pipe waits for its writer.
        if !self.path.metadata().map_err(unreadable)?.is_file() {
            return Err(self.unusable("must be a regular file"));
        }
        let file = File::open(&self.path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mut content = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
        if content.len() as u64 > BYTES_MAX {
            return Err(self.unusable(format!("must not be longer than {BYTES_MAX} bytes")));
        }
        Ok((content, is_exposed(metadata.mode(), metadata.uid())))
    }
}

/// PostgreSQL's rule for its key: the group may read a file that belongs to root, because its reader
/// cannot be its owner then.
fn is_exposed(mode: u32, owner: u32) -> bool {
    let allowed = if owner == 0 { 0o740 } else { 0o700 };
    mode & 0o777 & !allowed != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_and_of_roots_for_a_group() {
        for (mode, owner) in [(0o600, 7), (0o400, 7), (0o640, 0), (0o440, 0), (0o100_600, 7)] {
            assert!(!is_exposed(mode, owner), "{mode:o}");
        }
        for (mode, owner) in [(0o640, 7), (0o604, 7), (0o660, 0), (0o644, 0), (0o620, 7)] {
            assert!(is_exposed(mode, owner), "{mode:o}");
        }
    }

    #[test]
    fn only_a_regular_file_of_some_length_is_read() {
        let problem = |path: &str| {
            let file = NamedFile::new("TLS_KEY_FILE", path.to_owned());
            file.read().unwrap_err().to_string()
        };
        let line = problem("/nowhere/at-all");
        assert!(line.starts_with("TLS_KEY_FILE (/nowhere/at-all) cannot be read: "), "{line}");
        assert_eq!(problem("/dev/zero"), "TLS_KEY_FILE (/dev/zero) must be a regular file");
        assert_eq!(problem("/"), "TLS_KEY_FILE (/) must be a regular file");
    }
}
