//! Requests whose connection was lost: those whose client hung up, and those that no fault explains.

use std::time::Duration;

use super::log::Logged;
use crate::contract::answer::Said;
use crate::findings::Kind;
use crate::witness::record::{Attempt, Record};

/// How the load names a client that hangs up.
const HUNG_UP: &str = "the client hung up";

/// What was on its way when an instance ended may be noticed a little later.
const LATER: Duration = Duration::from_secs(1);

const EXAMPLES_MAX: usize = 3;

/// How many requests the clients themselves cut.
pub(crate) fn hung_up(record: &Record) -> usize {
    record.attempts.iter().filter(|attempt| is_hung_up(attempt)).count()
}

/// An instance that runs, on a way that nobody disturbs, answers every request. Says which it has not.
pub(crate) fn without_reason(record: &Record, faults: &[Logged]) -> Option<String> {
    let later = u64::try_from(LATER.as_nanos()).unwrap_or(u64::MAX);
    let explained = |attempt: &Attempt| {
        faults.iter().filter(|fault| fault.kind.cuts_clients()).any(|fault| {
            let end = fault.recovered.unwrap_or(fault.ended).max(fault.ended).saturating_add(later);
            attempt.window.returned >= fault.started && attempt.window.called <= end
        })
    };
    let lost: Vec<_> = record
        .attempts
        .iter()
        .filter(|attempt| attempt.said == Said::Lost(Kind::ConnectionLost))
        .filter(|attempt| !is_hung_up(attempt) && !explained(attempt))
        .collect();
    let examples: Vec<_> = lost.iter().take(EXAMPLES_MAX).map(|attempt| example(attempt)).collect();
    (!lost.is_empty()).then(|| {
        let (count, examples) = (lost.len(), examples.join("; "));
        format!("{count} connections lost without a fault that explains it: {examples}")
    })
}

fn example(attempt: &Attempt) -> String {
    let at = Duration::from_nanos(attempt.window.called).as_secs_f64();
    let Attempt { request, target, text, .. } = attempt;
    format!("request {request} to instance {target}, {at:.3} s: {text}")
}

fn is_hung_up(attempt: &Attempt) -> bool {
    attempt.text.ends_with(HUNG_UP)
}
