//! The log file of the server, and the reason in it why the server ended.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{AtPath, ClusterError};

/// A larger log is rotated at the next start; one older log is kept.
const BYTES_MAX: u64 = 16 << 20;

/// The log, opened by the service. The server inherits the descriptor and needs no access by path.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    begins_at: u64,
}

impl LogFile {
    /// Opens the log for one run of the server.
    pub(super) fn open(path: &Path) -> Result<(Self, File), ClusterError> {
        if fs::metadata(path).is_ok_and(|log| log.len() > BYTES_MAX) {
            fs::rename(path, path.with_extension("log.old")).at("put aside", path)?;
        }
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path).at("open", path)?;
        let begins_at = file.metadata().at("look at", path)?.len();
        Ok((Self { path: path.to_owned(), begins_at }, file))
    }

    /// The line of this run that says why the server ended.
    pub(super) fn reason(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.begins_at))?;
            file.take(BYTES_MAX).read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => last_meaningful_line(&String::from_utf8_lossy(&bytes)),
            Err(error) => format!("its log could not be read: {error}"),
        }
    }
}

/// The last line that reports an error, or the last line if none does, without time and process id.
/// The servers run with `LC_ALL=C`, so the words are English.
pub(super) fn last_meaningful_line(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let failure = |line: &str| {
        let words = ["FATAL:", "PANIC:", "ERROR:", " error: "];
        words.iter().filter_map(|word| line.rfind(word).map(|at| (at, word.len()))).min()
    };
    match lines().filter_map(|line| failure(line).map(|(at, len)| &line[at + len..])).next_back() {
        Some(message) => message.trim().to_owned(),
        None => lines().next_back().unwrap_or("it ended without a word").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::last_meaningful_line;

    #[test]
    fn the_last_failure_is_quoted_without_time_and_process_id() {
        let log = "2025-01-01 00:00:00 UTC [7] LOG:  starting\n\
                   2025-01-01 00:00:00 UTC [7] FATAL:  could not do it\n\
                   2025-01-01 00:00:00 UTC [7] LOG:  database system is shut down\n";
        assert_eq!(last_meaningful_line(log), "could not do it");
        assert_eq!(
            last_meaningful_line("initdb: error: no space\ninitdb: hint: free some\n"),
            "no space"
        );
    }

    #[test]
    fn without_a_failure_the_last_line_is_quoted() {
        assert_eq!(last_meaningful_line("one\ntwo\n\n"), "two");
        assert_eq!(last_meaningful_line("\n"), "it ended without a word");
    }
}
