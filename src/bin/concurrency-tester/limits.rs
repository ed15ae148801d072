//! The limits of this machine for one process: open files and local ports.

use std::ops::RangeInclusive;

use crate::run_error::RunError;

/// Open files besides the connections: standard streams, log, runtime, DNS look-up.
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files to its maximum, and checks that it and the local ports are enough
/// for `connections`.
///
/// # Errors
/// [`RunError::TooFewFiles`] and [`RunError::TooFewPorts`] name the limit and how to raise it.
pub(crate) fn ensure_connections_fit(connections: usize) -> Result<(), RunError> {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX);
    let needed = wanted.saturating_add(OTHER_FILES);
    // If the limit is unknown, it may be high enough: connecting will tell.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    if limit < needed {
        return Err(RunError::TooFewFiles { connections, needed, limit });
    }
    if let Some(available) = local_ports()
        && available < wanted
    {
        return Err(RunError::TooFewPorts { connections, available });
    }
    Ok(())
}

/// The number of ports for outgoing connections. `None` if the system has no such file.
fn local_ports() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let range = parse_port_range(&text)?;
    Some(u64::from(*range.end()).saturating_sub(u64::from(*range.start())) + 1)
}

fn parse_port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut bounds = text.split_whitespace().map(str::parse::<u16>);
    match (bounds.next(), bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last)), None) if first <= last => Some(first..=last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_range_is_read_as_linux_writes_it() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_port_range("60999 32768"), None);
        assert_eq!(parse_port_range("32768"), None);
        assert_eq!(parse_port_range(""), None);
    }

    #[test]
    fn more_connections_than_the_machine_can_hold_are_refused_with_the_limit() {
        let error = ensure_connections_fit(usize::MAX).expect_err("nobody has so many files");
        assert!(matches!(error, RunError::TooFewFiles { .. } | RunError::TooFewPorts { .. }));
        assert_eq!(error.exit_code(), 3);
    }
}
