//! What all answers about one operation mean together.

use std::collections::HashSet;

use super::super::answer::{Answer, Fact, Said};
use super::super::operation::Operation;
use crate::exactness::{Kind, Tally};

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

/// A decision, and the request that was told it.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    pub(super) decision: Decision<'a>,
    pub(super) request: usize,
}

impl<'a> Decided<'a> {
    /// Also checks that the answers agree.
    pub(super) fn of(operation: &Operation, answers: &'a [Answer], tally: &mut Tally) -> Self {
        check_running(operation, answers, tally);
        let final_answer =
            answers.iter().find(|a| matches!(a.said, Said::Accepted(_) | Said::Refused(_)));
        let Some(first) = final_answer else { return Self::without_final(answers) };
        for answer in answers {
            let is_final =
                matches!(answer.said, Said::Accepted(_) | Said::Refused(_) | Said::Resolved(_));
            if is_final && answer.text != first.text {
                tally.add(Kind::DifferentAnswers, || {
                    let key = operation.key.as_deref().unwrap_or("none");
                    let (one, other) = (first.request, answer.request);
                    let (text, another) = (&first.text, &answer.text);
                    format!("key {key}: request {one}: {text}; request {other}: {another}")
                });
            }
        }
        let decision = match &first.said {
            Said::Accepted(facts) => Decision::Accepted(facts),
            Said::Refused(position) => Decision::Refused(*position),
            _ => unreachable!("the answer was chosen for being one of these"),
        };
        Self { decision, request: first.request }
    }

    fn without_final(answers: &[Answer]) -> Self {
        let open = answers.iter().find(|a| matches!(a.said, Said::Lost(_) | Said::Wrong(_)));
        let (decision, answer) = match open {
            Some(answer) => (Decision::Open, Some(answer)),
            None => (Decision::NotApplied, answers.first()),
        };
        Self { decision, request: answer.map_or(0, |answer| answer.request) }
    }
}

/// "Still running" is only true of a key that another request has as well, and one of them must be
/// told more.
fn check_running(operation: &Operation, answers: &[Answer], tally: &mut Tally) {
    let running = |answer: &&Answer| answer.said == Said::StillRunning;
    let waited_for = operation.key.is_some() && !answers.iter().all(|answer| running(&answer));
    if !waited_for {
        for answer in answers.iter().filter(running) {
            tally.add(Kind::UnexpectedStatus(409), || describe(answer));
        }
    }
}

/// Reports every answer that is missing or wrong, and every one that decides nothing.
pub(super) fn report(answers: &[Vec<Answer>], tally: &mut Tally) {
    // The answer to a whole bulk is there once for each change.
    let mut reported = HashSet::new();
    for answer in answers.iter().flatten() {
        let kind = match answer.said {
            Said::Lost(kind) | Said::Wrong(kind) => kind,
            Said::NotApplied => Kind::UnexpectedStatus(503),
            _ => continue,
        };
        if reported.insert((answer.request, &answer.text)) {
            tally.add(kind, || describe(answer));
        }
    }
}

fn describe(answer: &Answer) -> String {
    format!("request {}: {}", answer.request, answer.text)
}
