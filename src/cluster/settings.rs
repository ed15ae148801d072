//! The settings of the private server, each with its reason.

use std::ffi::OsString;
use std::path::Path;

/// Passed on the command line, which overrides the configuration file of the cluster.
const SETTINGS: &[(&str, &str)] = &[
    // No access over a network. The port is only part of the socket's name.
    ("listen_addresses", ""),
    ("port", "5432"),
    // A second guard, beside the mode 0700 of the folder.
    ("unix_socket_permissions", "0700"),
    // An acknowledged change survives a crash. These are the defaults, stated here because
    // everything else depends on them: no speed is worth giving one up.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // The pool of the service is small (more connections make a hot row slower). The rest is for a
    // second instance, `psql` and a dump.
    ("max_connections", "100"),
    // Holds the hot part of some million users; small enough for a laptop.
    ("shared_buffers", "256MB"),
    // Checkpoints are rare: after each of them, the first change of a page writes the whole page to
    // the WAL. The price is a longer recovery, some seconds for 2 GB. Segments up to the minimum
    // are reused, which saves the flushes for new ones.
    ("checkpoint_timeout", "15min"),
    ("max_wal_size", "2GB"),
    ("min_wal_size", "512MB"),
    // A statement takes a few microseconds; compiling it takes milliseconds.
    ("jit", "off"),
    // The transactions of the service take milliseconds. One that idles this long has lost its
    // client and must not keep the row lock of a hot account.
    ("idle_in_transaction_session_timeout", "15s"),
    // The log shows errors but no data: neither statements nor parameters nor the row in a DETAIL
    // line, which may hold an idempotency key.
    ("log_min_messages", "warning"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    // A single log file, opened by the service.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    // The same time stamps in every log and response, whatever the time zone of the machine.
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    // Names the processes in `ps`.
    ("cluster_name", "plimsoll"),
    // Deliberately left at their defaults: `wal_compression` (costs CPU time on every full page,
    // and full pages are rare), `wal_level` (a replica or a base backup must stay possible),
    // autovacuum (a hot row is pruned by its own updates).
];

/// All settings in order; a later one overrides an earlier one of the same name.
pub(super) fn all<'a>(
    socket_dir: &Path,
    extra: &'a [(String, String)],
) -> impl Iterator<Item = (&'a str, OsString)> {
    let socket = ("unix_socket_directories", quoted(socket_dir));
    let built_in = SETTINGS.iter().map(|(name, value)| (*name, OsString::from(value)));
    let extra = extra.iter().map(|(name, value)| (name.as_str(), OsString::from(value)));
    built_in.chain([socket]).chain(extra)
}

/// The setting is a list. Quotes keep a comma in the path from separating entries.
fn quoted(path: &Path) -> OsString {
    let path = path.to_string_lossy().replace('"', "\"\"");
    OsString::from(format!("\"{path}\""))
}
