//! Every operation with all its attempts, and what their answers together say about it.

use super::record::{Attempt, Record, Window};
use super::story::Story;
use crate::contract::answer::{Fact, Said};
use crate::contract::operation::Operation;
use crate::findings::{Kind, Tally};

/// Whether an operation was applied, as far as the answers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision<'a> {
    Accepted(&'a [Fact]),
    /// Insufficient funds. Of a bulk, the position of the change.
    Refused(Option<usize>),
    /// Every answer says that it was not applied.
    NotApplied,
    /// An answer is missing or wrong: it was applied or not.
    Open,
}

/// An operation with its attempts.
pub(super) struct Case<'a> {
    pub(super) operation: &'a Operation,
    /// In order of their calls.
    pub(super) attempts: Vec<&'a Attempt>,
    pub(super) decision: Decision<'a>,
}

impl<'a> Case<'a> {
    /// The cases of a run, in order of the operations. Also checks that the answers to each agree.
    pub(super) fn all(record: &'a Record, tally: &mut Tally) -> Vec<Self> {
        let mut attempts: Vec<&Attempt> = record.attempts.iter().collect();
        attempts.sort_by_key(|attempt| (attempt.operation, attempt.window.called));
        let mut attempts = attempts.into_iter().peekable();
        let mut cases = Vec::with_capacity(record.operations.len());
        for (number, operation) in record.operations.iter().enumerate() {
            let mut own = Vec::new();
            while let Some(attempt) = attempts.next_if(|attempt| attempt.operation == number) {
                own.push(attempt);
            }
            let decision = decide(&own);
            let case = Self { operation, attempts: own, decision };
            case.check_answers(tally);
            cases.push(case);
        }
        cases
    }

    /// When it was applied, if it was: after the first call that may have done it, and before the first
    /// answer that says so.
    pub(super) fn applied(&self) -> Window {
        self.window(|said| matches!(said, Said::Accepted(_)))
    }

    /// When it was refused, if it was.
    pub(super) fn refused(&self) -> Window {
        self.window(|said| matches!(said, Said::Refused(_)))
    }

    /// From the first call whose outcome is this one or unknown, until the first answer of this outcome.
    fn window(&self, is: impl Fn(&Said) -> bool) -> Window {
        let unknown = |said: &Said| matches!(said, Said::Lost(_) | Said::Wrong(_));
        let called = self.attempts.iter().filter(|a| is(&a.said) || unknown(&a.said));
        let returned = self.attempts.iter().filter(|a| is(&a.said));
        Window {
            called: called.map(|a| a.window.called).min().unwrap_or(0),
            returned: returned.map(|a| a.window.returned).min().unwrap_or(u64::MAX),
        }
    }

    fn check_answers(&self, tally: &mut Tally) {
        self.check_running(tally);
        for attempt in &self.attempts {
            if let Said::Wrong(kind) = attempt.said {
                tally.add(kind, || Story::of(attempt, self.operation).to_string());
            }
        }
        let mut decided = self.attempts.iter().filter(|attempt| is_decided(&attempt.said));
        let Some(first) = decided.next() else { return };
        // Without a key a hold may be found resolved by the request itself, but never by another one.
        for other in decided.filter(|other| other.text != first.text) {
            tally.add(Kind::DifferentAnswers, || {
                let mut story = Story::of(first, self.operation);
                story.add(other, self.operation);
                story.to_string()
            });
        }
    }

    /// "Still running" is only true of a key that another request has as well, and one of them must be
    /// told more.
    fn check_running(&self, tally: &mut Tally) {
        let running = |attempt: &&&Attempt| attempt.said == Said::StillRunning;
        let waited_for = self.operation.key.is_some() && !self.attempts.iter().all(|a| running(&a));
        if !waited_for {
            for attempt in self.attempts.iter().filter(running) {
                tally.add(Kind::UnexpectedStatus(409), || {
                    Story::of(attempt, self.operation).to_string()
                });
            }
        }
    }
}

fn is_decided(said: &Said) -> bool {
    matches!(said, Said::Accepted(_) | Said::Refused(_) | Said::Resolved(_))
}

fn decide<'a>(attempts: &[&'a Attempt]) -> Decision<'a> {
    let mut decision = Decision::NotApplied;
    for attempt in attempts {
        match &attempt.said {
            Said::Accepted(facts) => return Decision::Accepted(facts),
            Said::Refused(position) => return Decision::Refused(*position),
            // Had an earlier attempt resolved the hold, this one would have been told the same.
            Said::Resolved(_) => return Decision::NotApplied,
            Said::Lost(_) | Said::Wrong(_) => decision = Decision::Open,
            Said::StillRunning | Said::NotApplied => {}
        }
    }
    decision
}
