//! The image, the compose file and the unit of systemd keep what was learned from trying them. None of
//! them can be run here, so their texts are checked.

mod compose;
mod image;
mod unit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll::config::VARIABLES;

/// Longer than this, a stop takes only if something does not end by itself: sessions and a private
/// PostgreSQL are closed after the requests.
const CLOSE_SLACK: Duration = Duration::from_secs(10);

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The default of a variable, in seconds.
fn default_secs(name: &str) -> Duration {
    let known = VARIABLES.iter().find(|variable| variable.name == name).expect(name);
    Duration::from_secs(known.default.parse().expect("seconds"))
}

fn is_variable(name: &str) -> bool {
    VARIABLES.iter().any(|variable| variable.name == name)
}

/// `10s`, `1m`, or seconds without a unit.
fn duration(text: &str) -> Duration {
    let (number, factor) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("a duration: {text}"));
    Duration::from_secs(number * factor)
}

#[test]
fn a_stop_ends_before_it_is_cut_off() {
    let drain = default_secs("DRAIN_TIMEOUT_SECS");
    for patience in [compose::stop_grace_period(), unit::timeout_stop()] {
        assert!(patience > drain + CLOSE_SLACK, "{patience:?} for a drain of {drain:?}");
    }
}
