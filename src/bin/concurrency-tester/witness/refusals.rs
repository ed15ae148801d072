//! A refusal must have been true at some moment between call and answer.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::cases::{Case, Decision};
use super::commit_times::{AllCommitTimes, CommitTimes};
use super::record::Window;
use super::story::Story;
use crate::contract::operation::{Action, Item};
use crate::findings::{Kind, Tally};

pub(super) fn check(cases: &[Case<'_>], times: &AllCommitTimes<'_>, tally: &mut Tally) {
    let mut balances = Balances { times, users: BTreeMap::new() };
    for case in cases {
        let Decision::Refused(position) = case.decision else { continue };
        let Some(why) = balances.impossible(&case.operation.action, position, case.refused())
        else {
            continue;
        };
        tally.add(Kind::ImpossibleRefusal, || {
            let mut story = Story::default();
            for attempt in &case.attempts {
                story.add(attempt, case.operation);
            }
            story.note(why);
            story.to_string()
        });
    }
}

/// The lowest and the highest balance of a user that can have been current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    low: i64,
    high: i64,
}

struct Balances<'a> {
    times: &'a AllCommitTimes<'a>,
    /// Of the users that somebody was refused for.
    users: BTreeMap<i64, Extents>,
}

impl Balances<'_> {
    fn extent(&mut self, user: i64, window: Window) -> Option<Extent> {
        let times = self.times.get(user)?;
        let extents = self.users.entry(user).or_insert_with(|| Extents::of(times));
        Some(extents.of_range(times.current(window)))
    }

    /// Why the refusal cannot have been true, if so.
    fn impossible(
        &mut self,
        action: &Action,
        position: Option<usize>,
        window: Window,
    ) -> Option<String> {
        let (user, by) = match action {
            Action::Transfer { from, amount, .. } => (*from, -i128::from(*amount)),
            Action::Reserve { user, amount, .. } => (*user, -i128::from(*amount)),
            Action::Change { user, amount } => (*user, i128::from(*amount)),
            Action::All(items) => {
                let extent = |user| self.extent(user, window);
                return impossible_bulk(items, position?, extent);
            }
            Action::Capture { .. } | Action::Release { .. } => return None,
        };
        let low = self.extent(user, window)?.low;
        (i128::from(low) + by >= 0)
            .then(|| format!("{by:+} was refused; meanwhile user {user} never had less than {low}"))
    }
}

/// The change at `position` is the first that fails. All before it can be paid, one after the other.
fn impossible_bulk(
    items: &[Item],
    position: usize,
    mut extent: impl FnMut(i64) -> Option<Extent>,
) -> Option<String> {
    let mut moved: HashMap<i64, i128> = HashMap::new();
    for (place, Item { user, amount, .. }) in items[..=position].iter().enumerate() {
        let Extent { low, high } = extent(*user)?;
        let moved = moved.entry(*user).or_default();
        *moved += i128::from(*amount);
        if place == position && i128::from(low) + *moved >= 0 {
            return Some(format!(
                "changes[{place}] was refused; meanwhile user {user} never had less than {low} \
                 before it, and {moved:+} in this bulk"
            ));
        }
        if place < position && i128::from(high) + *moved < 0 {
            return Some(format!(
                "changes[{position}] was refused, but changes[{place}] must have been refused \
                 before: user {user} never had more than {high}"
            ));
        }
    }
    None
}

/// The lowest and the highest balance of every range: of each power of two as a length, the extent of
/// all ranges of that length (a sparse table). A range is covered by two of them.
struct Extents {
    levels: Vec<Vec<Extent>>,
}

impl Extents {
    fn of(times: &CommitTimes<'_>) -> Self {
        let before = [times.history.before.balance];
        let balances = times.history.entries.iter().map(|entry| entry.balance);
        Self::new(before.into_iter().chain(balances))
    }

    fn new(balances: impl Iterator<Item = i64>) -> Self {
        let mut levels: Vec<Vec<Extent>> =
            vec![balances.map(|balance| Extent { low: balance, high: balance }).collect()];
        let mut half = 1;
        while let Some(last) = levels.last()
            && last.len() > half
        {
            let pairs = last.iter().zip(&last[half..]);
            let next = pairs.map(|(one, other)| one.with(*other)).collect();
            levels.push(next);
            half *= 2;
        }
        Self { levels }
    }

    /// Of a range that is not empty.
    fn of_range(&self, range: Range<usize>) -> Extent {
        let level = usize::try_from(range.len().ilog2()).unwrap_or_default();
        let ranges = &self.levels[level];
        ranges[range.start].with(ranges[range.end - (1 << level)])
    }
}

impl Extent {
    fn with(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extent_of_every_range_is_found() {
        let balances = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
        for count in 1..=balances.len() {
            let extents = Extents::new(balances[..count].iter().copied());
            for begin in 0..count {
                for end in begin + 1..=count {
                    let range = &balances[begin..end];
                    let due = Extent {
                        low: *range.iter().min().unwrap(),
                        high: *range.iter().max().unwrap(),
                    };
                    assert_eq!(extents.of_range(begin..end), due, "{begin}..{end} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_bulk_fails_at_the_first_change_that_could_not_be_paid() {
        // User 1 has had 5 to 10, user 2 has had nothing.
        let extent = |user| match user {
            1 => Some(Extent { low: 5, high: 10 }),
            _ => Some(Extent { low: 0, high: 0 }),
        };
        let items = |changes: &[(i64, i64)]| {
            let item = |(user, amount): &(i64, i64)| Item {
                user: *user,
                amount: *amount,
                reference: None,
            };
            changes.iter().map(item).collect::<Vec<_>>()
        };
        for (changes, position, possible) in [
            (&[(1, -6)][..], 0, true),
            (&[(1, -5)], 0, false),
            (&[(1, -3), (1, -3)], 1, true),
            (&[(1, 3), (1, -8)], 1, false),
            (&[(1, 3), (1, -9)], 1, true),
            (&[(1, -3), (2, -1)], 1, true),
            // The first change must have been refused, if the second one was.
            (&[(1, -11), (2, -1)], 1, false),
        ] {
            let why = impossible_bulk(&items(changes), position, extent);
            assert_eq!(why.is_none(), possible, "{changes:?} {position}: {why:?}");
        }
    }
}
