//! Checks the answers of one burst of operations against the histories, as a pure function.
//!
//! An operation is known by its entries: who, what kind, how much, with which key and reference. So
//! each entry that a burst left can be laid to the one operation that asked for it, and each answer
//! to its entries. Nothing may be left over on either side, except where an answer was lost: such an
//! operation has left all of its entries or none.

mod decision;
mod effects;
mod histories;
mod holds;
mod leftover;
mod order;
mod refusals;

#[cfg(test)]
mod tests;

use super::answer::{self, Answer, Said};
use super::books::Books;
use super::operation::Operation;
use super::traffic::Traffic;
use crate::exactness::{Findings, Kind, Tally};
use crate::reply::Reply;
use decision::{Decided, Decision};
use effects::Effects;

/// What is counted besides the [`Findings`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Operations that were applied, each counted once.
    pub(crate) applied: usize,
    /// Answers that leave the operation undecided: 503, 504, or no answer at all.
    pub(crate) undecided: usize,
}

/// Everything about one operation.
struct Case<'a> {
    operation: &'a Operation,
    answers: &'a [Answer],
    decided: Decided<'a>,
}

/// Checks the replies of one burst, in order of their requests' numbers, and what was read after it
/// (or the reason why reading it failed).
pub(crate) fn check(
    traffic: &Traffic,
    replies: &[Reply],
    books: &Result<Books, String>,
) -> (Findings, Counts) {
    let answers = answer::read_all(traffic, replies);
    let mut tally = Tally::default();
    decision::report(&answers, &mut tally);
    let cases: Vec<_> = traffic
        .operations
        .iter()
        .zip(&answers)
        .map(|(operation, answers)| Case {
            operation,
            answers,
            decided: Decided::of(operation, answers, &mut tally),
        })
        .collect();
    let applied = match books {
        Ok(books) => check_books(traffic, &cases, books, &mut tally),
        Err(why) => {
            tally.add(Kind::FinalBalance, || format!("not readable: {why}"));
            0
        }
    };
    let count = |counts: fn(&Said) -> bool| {
        answers.iter().flatten().filter(|answer| counts(&answer.said)).count()
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

/// Returns how many operations were applied.
fn check_books(traffic: &Traffic, cases: &[Case<'_>], books: &Books, tally: &mut Tally) -> usize {
    histories::check(books, tally);
    let effects = Effects::find(cases, books, tally);
    refusals::check(cases, books, tally);
    holds::check(cases, &effects, books, tally);
    order::check(traffic, &effects, tally);
    check_sum(cases, &effects, books, tally);
    cases.iter().enumerate().filter(|(n, case)| effects.applied(*n, case)).count()
}

/// What the users have together changes only by money that comes into the service or leaves it.
fn check_sum(cases: &[Case<'_>], effects: &Effects<'_>, books: &Books, tally: &mut Tally) {
    let net: i128 = cases
        .iter()
        .enumerate()
        .filter(|(n, case)| effects.applied(*n, case))
        .map(|(_, case)| case.operation.net())
        .sum();
    let sum = |balance: i64, held: i64| i128::from(balance) + i128::from(held);
    let before: i128 = books.users.values().map(|h| sum(h.before.balance, h.before.held)).sum();
    let after: i128 = books.users.values().map(|h| sum(h.after.balance, h.after.held)).sum();
    if after != before + net {
        tally.add(Kind::SumChanged, || format!("it is {after}, it must be {}", before + net));
    }
}
