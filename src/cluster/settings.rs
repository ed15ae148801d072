//! The settings of the private server, each with its reason.

use std::ffi::OsString;
use std::path::Path;

/// Given on the command line, so that they hold whatever the cluster's own file says.
const SETTINGS: &[(&str, &str)] = &[
    // Nobody reaches it over a network. The port only names the socket.
    ("listen_addresses", ""),
    ("port", "5432"),
    // Beside the folder's mode 0700; a second lock on the same door.
    ("unix_socket_permissions", "0700"),
    // A change that was answered survives a crash. These are the defaults, stated here because
    // everything else rests on them: no speed is worth one of them.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // The service's pool is small (more connections make one hot row slower); the rest is room
    // for a second instance, `psql` and a dump.
    ("max_connections", "100"),
    // Holds the hot part of some million users; small enough for a laptop.
    ("shared_buffers", "256MB"),
    // Checkpoints are rare, since after each the first change of a page writes the whole page
    // into the log. The price is a longer recovery, some seconds for 2 GB. Segments up to the
    // minimum are kept and used again, which saves the flushes of making new ones.
    ("checkpoint_timeout", "15min"),
    ("max_wal_size", "2GB"),
    ("min_wal_size", "512MB"),
    // The statements are a few microseconds long; compiling one takes milliseconds.
    ("jit", "off"),
    // The service's transactions take milliseconds. One that waits this long has lost its client
    // and must not keep the row lock of a hot account.
    ("idle_in_transaction_session_timeout", "15s"),
    // The log shows what went wrong but never what was sent: neither statements nor parameters
    // nor the row in a DETAIL line, which may hold an idempotency key.
    ("log_min_messages", "warning"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    // One file, the one that the service opened.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    // The same stamps in every log and answer, wherever the machine stands.
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    // Names the processes in `ps`.
    ("cluster_name", "plimsoll"),
    // Left alone on purpose: `wal_compression` (costs processor time on every full page, and
    // these are rare), `wal_level` (a replica or a base backup must stay possible), autovacuum
    // (a hot row is pruned by its own updates).
];

/// All settings in order; a later one wins over an earlier one of the same name.
pub(super) fn all<'a>(
    socket_dir: &Path,
    extra: &'a [(String, String)],
) -> impl Iterator<Item = (&'a str, OsString)> {
    let socket = ("unix_socket_directories", quoted(socket_dir));
    let built_in = SETTINGS.iter().map(|(name, value)| (*name, OsString::from(value)));
    let extra = extra.iter().map(|(name, value)| (name.as_str(), OsString::from(value)));
    built_in.chain([socket]).chain(extra)
}

/// The setting is a list; in quotes a comma in the path separates nothing.
fn quoted(path: &Path) -> OsString {
    let path = path.to_string_lossy().replace('"', "\"\"");
    OsString::from(format!("\"{path}\""))
}
