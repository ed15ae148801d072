//! Judges a run: compares what the clients were told, and when, with the histories that the service
//! shows at the end. A pure function, which knows nothing of how the run was made.
//!
//! In reading order: [`record`] is what the clients wrote down. [`cases`] joins the answers to each
//! operation, [`effects`] finds the entries of each, [`histories`], [`holds`] and [`order`] check what was
//! stored, [`commit_times`] derives when each entry was committed, by which [`reads`] and [`refusals`] are
//! checked. All together take O(n log n).
//!
//! The idea of unique amounts, by which an entry belongs to one request, and of a run that is unknown
//! rather than right while its final read is incomplete, is that of Jepsen's tests of TigerBeetle.

mod cases;
mod commit_times;
mod effects;
mod histories;
mod holds;
mod order;
mod reads;
pub(crate) mod record;
mod refusals;
mod story;

#[cfg(test)]
mod tests;

use crate::contract::books::Books;
use crate::findings::{Kind, Tally};
use cases::Case;
use commit_times::AllCommitTimes;
use effects::Effects;
use record::Record;

/// What came of the operations of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Whether each operation was applied, in order of the record.
    pub(crate) applied: Vec<bool>,
}

impl Judged {
    /// Operations that were applied, each counted once.
    pub(crate) fn applied_count(&self) -> usize {
        self.applied.iter().filter(|applied| **applied).count()
    }
}

/// Adds every violation to the tally. The books must have the history of each user of the run, and all
/// holds. Amounts must be unique in the run.
pub(crate) fn judge(record: &Record, books: &Books, tally: &mut Tally) -> Judged {
    let cases = Case::all(record, tally);
    histories::check(books, tally);
    let effects = Effects::find(&cases, books, tally);
    order::check(record, &cases, &effects, tally);
    let holds = holds::check(&cases, &effects, books, tally);

    let mut times = AllCommitTimes::of(books);
    times.add_operations(&cases, &effects);
    reads::add(record, books, &holds, &mut times, tally);
    reads::add_conflicts(&cases, &holds, &mut times);
    times.settle(tally);
    refusals::check(&cases, &times, tally);

    let applied: Vec<_> =
        cases.iter().enumerate().map(|(number, case)| effects.applied(number, case)).collect();
    check_sum(&cases, &applied, books, tally);
    Judged { applied }
}

/// What the users have together changes only by money that comes into the service or leaves it.
fn check_sum(cases: &[Case<'_>], applied: &[bool], books: &Books, tally: &mut Tally) {
    let applied = cases.iter().zip(applied).filter(|(_, applied)| **applied);
    let net: i128 = applied.map(|(case, _)| case.operation.net()).sum();
    let sum = |balance: i64, held: i64| i128::from(balance) + i128::from(held);
    let before: i128 = books.users.values().map(|h| sum(h.before.balance, h.before.held)).sum();
    let after: i128 = books.users.values().map(|h| sum(h.after.balance, h.after.held)).sum();
    if after != before + net {
        tally.add(Kind::SumChanged, || format!("it is {after}, it must be {}", before + net));
    }
}
