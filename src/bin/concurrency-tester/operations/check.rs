//! Checks one burst of operations, as a pure function. In a burst nothing fails, so that every answer that
//! leaves an operation undecided is a violation as well.

use std::collections::HashSet;

use super::answers;
use super::traffic::Traffic;
use crate::contract::answer::Said;
use crate::contract::books::Books;
use crate::findings::{Findings, Kind, Tally};
use crate::reply::Reply;
use crate::witness::judge;
use crate::witness::record::{Record, Window};

/// What is counted besides the [`Findings`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Operations that were applied, each counted once.
    pub(crate) applied: usize,
    /// Answers that leave the operation undecided: 503, 504, or no answer at all.
    pub(crate) undecided: usize,
}

/// Checks the replies of one burst, in order of their requests' numbers, and what was read after it
/// (or the reason why reading it failed).
pub(crate) fn check(
    traffic: &Traffic,
    replies: &[Reply],
    windows: &[Window],
    books: &Result<Books, String>,
) -> (Findings, Counts) {
    let record = answers::record(traffic, replies, windows);
    let mut tally = Tally::default();
    report_undecided(&record, &mut tally);
    let applied = match books {
        Ok(books) => judge(&record, books, &mut tally).applied_count(),
        Err(why) => {
            tally.add(Kind::FinalBalance, || format!("not readable: {why}"));
            0
        }
    };
    let count = |counts: fn(&Said) -> bool| {
        record.attempts.iter().filter(|attempt| counts(&attempt.said)).count()
    };
    let findings = Findings {
        accepted: count(|said| matches!(said, Said::Accepted(_))),
        refused: count(|said| {
            matches!(said, Said::Refused(_) | Said::Resolved(_) | Said::StillRunning)
        }),
        wrong: count(|said| matches!(said, Said::Wrong(_))),
        violations: tally.into_violations(),
    };
    let undecided = count(|said| matches!(said, Said::NotApplied | Said::Lost(_)));
    (findings, Counts { applied, undecided })
}

fn report_undecided(record: &Record, tally: &mut Tally) {
    // The answer to a whole bulk is there once for each change.
    let mut reported = HashSet::new();
    for attempt in &record.attempts {
        let kind = match attempt.said {
            Said::Lost(kind) => kind,
            Said::NotApplied => Kind::UnexpectedStatus(503),
            _ => continue,
        };
        if reported.insert((attempt.request, &attempt.text)) {
            tally.add(kind, || format!("request {}: {}", attempt.request, attempt.text));
        }
    }
}
