//! A refusal must have been true at some moment: the history shows every balance that there was.

use std::collections::BTreeMap;

use super::super::books::Books;
use super::super::operation::{Action, Item};
use super::{Case, Decision};
use crate::exactness::{Kind, Tally};

pub(super) fn check(cases: &[Case<'_>], books: &Books, tally: &mut Tally) {
    let range = |user: &i64| {
        let balances = || books.users.get(user).into_iter().flat_map(|h| h.balances());
        balances().min().zip(balances().max()).map(|(low, high)| Range { low, high })
    };
    let ranges: BTreeMap<i64, Range> =
        books.users.keys().filter_map(|user| Some((*user, range(user)?))).collect();
    for case in cases {
        let Decision::Refused(position) = case.decided.decision else { continue };
        let Some(why) = impossible(&case.operation.action, position, &ranges) else { continue };
        tally.add(Kind::ImpossibleRefusal, || format!("request {}: {why}", case.decided.request));
    }
}

/// The lowest and the highest balance of a user.
#[derive(Clone, Copy)]
struct Range {
    low: i64,
    high: i64,
}

/// Why the refusal cannot have been true, if so.
fn impossible(
    action: &Action,
    position: Option<usize>,
    ranges: &BTreeMap<i64, Range>,
) -> Option<String> {
    let (user, by) = match action {
        Action::Transfer { from, amount, .. } => (*from, -i128::from(*amount)),
        Action::Reserve { user, amount } => (*user, -i128::from(*amount)),
        Action::Change { user, amount } => (*user, i128::from(*amount)),
        Action::All(items) => return impossible_bulk(items, position?, ranges),
        Action::Capture { .. } | Action::Release { .. } => return None,
    };
    let low = ranges.get(&user)?.low;
    (i128::from(low) + by >= 0)
        .then(|| format!("{by:+} refused, the balance of user {user} was never below {low}"))
}

/// The change at `position` is the first that fails. All before it can be paid, one after the other.
fn impossible_bulk(
    items: &[Item],
    position: usize,
    ranges: &BTreeMap<i64, Range>,
) -> Option<String> {
    let mut moved: BTreeMap<i64, i128> = BTreeMap::new();
    for (place, Item { user, amount, .. }) in items[..=position].iter().enumerate() {
        let Range { low, high } = *ranges.get(user)?;
        let moved = moved.entry(*user).or_default();
        *moved += i128::from(*amount);
        if place == position && i128::from(low) + *moved >= 0 {
            return Some(format!(
                "changes[{place}] refused, user {user} never had less than {low} before it, and \
                 {moved:+} in this bulk"
            ));
        }
        if place < position && i128::from(high) + *moved < 0 {
            return Some(format!(
                "changes[{position}] refused, but changes[{place}] must have been refused before: \
                 user {user} never had more than {high}"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_fails_at_the_first_change_that_could_not_be_paid() {
        // User 1 has had 5 to 10, user 2 has had nothing.
        let ranges = [(1, Range { low: 5, high: 10 }), (2, Range { low: 0, high: 0 })].into();
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
            let why = impossible_bulk(&items(changes), position, &ranges);
            assert_eq!(why.is_none(), possible, "{changes:?} {position}: {why:?}");
        }
    }
}
