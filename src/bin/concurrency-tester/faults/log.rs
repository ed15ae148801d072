//! The faults that were made: a line for each while it runs, and their recovery times afterwards.

use std::io::{self, Write};
use std::time::Duration;

use super::kind::Kind;
use super::recovery::Successes;

/// A fault that is over. All times are nanoseconds on the clock of the load.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) round: usize,
    pub(crate) kind: Kind,
    pub(crate) target: String,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// From then on the service could work again.
    pub(crate) back: Option<u64>,
    /// Then each instance had accepted a request that was sent after `back`.
    pub(crate) recovered: Option<u64>,
    /// It did not happen, since another one had taken away what it needs.
    pub(crate) missed: bool,
    /// Another fault has broken something during the recovery, so that its time says nothing.
    pub(crate) disturbed: bool,
    pub(crate) wrong: Option<String>,
}

impl Logged {
    /// How long the service took, unless it was disturbed.
    pub(crate) fn recovery(&self) -> Option<Duration> {
        let (back, recovered) = (self.back?, self.recovered?);
        (!self.disturbed).then(|| Duration::from_nanos(recovered.saturating_sub(back)))
    }

    fn breaks_within(&self, from: u64, to: u64) -> bool {
        let back = self.back.filter(|_| !self.missed && self.kind.stops_instances());
        back.is_some_and(|back| self.started < to && from < back)
    }
}

/// Replaces what the probe has seen by what the clients of the load have.
pub(crate) fn add_recoveries(faults: &mut [Logged], successes: &Successes) {
    let others = faults.to_vec();
    for (position, fault) in faults.iter_mut().enumerate() {
        let Some(back) = fault.back else { continue };
        // The last fault of a round may have nobody of the load left who asks.
        let Some(recovered) = successes.after(back).or(fault.recovered) else { continue };
        fault.recovered = Some(recovered);
        let mut others = others.iter().enumerate().filter(|(other, _)| *other != position);
        fault.disturbed = others.any(|(_, other)| other.breaks_within(back, recovered));
    }
}

/// One line on standard error, so that a long run can be followed.
pub(crate) fn print(fault: &Logged) {
    let seconds = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
    let mut line = format!(
        "{:>4} {:>7.1} s  {:<22} {:>6.2} s  {}",
        fault.round,
        seconds(fault.started),
        fault.kind,
        seconds(fault.ended.saturating_sub(fault.started)),
        fault.target,
    );
    if let (Some(back), Some(recovered)) = (fault.back, fault.recovered) {
        let millis = Duration::from_nanos(recovered.saturating_sub(back)).as_millis();
        line += &format!("; works again after {millis} ms");
    }
    if let Some(wrong) = &fault.wrong {
        line += &format!("; WRONG: {wrong}");
    }
    say(&line);
}

/// A line on standard error.
pub(crate) fn say(line: &str) {
    // If stderr is closed, the report still has everything.
    let _ = writeln!(io::stderr(), "{line}");
}
