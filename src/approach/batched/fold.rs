//! The fold: what a batch asks of one balance. Pure, so that it can be held against a model.
//!
//! A user's changes in a batch, in order of arrival, move the balance by running sums. If the lowest
//! of these does not take it below zero and the highest does not take it out of range, then every
//! change fits, in this order; so one comparison with the balance decides on all of them
//! ([`whole`]). Where it fails, they are decided one by one on a balance that was read ([`each`]).
//!
//! A key that comes twice counts once: the later change is answered like the first one.

use std::collections::{BTreeMap, HashMap};

use crate::balance::{Balance, Change, Decision, Key, UserId, decide};

/// Under which condition a plan may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The balance is in this range; then every change fits.
    Range { least: Balance, most: Balance },
    /// The row still has this version, and so the balance that was decided on.
    Version(i64),
}

/// What becomes of one change when the plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Accepted; the new balance is the one before the batch plus `running`.
    Accepted { running: i64 },
    /// Insufficient funds.
    Refused,
    /// The same key and amount as an earlier change of the batch, and so the same outcome.
    Copy { of: usize },
    /// The same key as an earlier change of the batch, with another amount.
    KeyReused,
    /// The sum would not fit.
    OutOfRange,
}

/// What to do about one user's changes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) guard: Guard,
    /// The sum of the accepted amounts.
    pub(super) net: i64,
    /// How many are accepted.
    pub(super) count: i64,
    /// One for each change, in order of arrival.
    pub(super) verdicts: Vec<Verdict>,
}

impl Plan {
    /// A plan that never holds, and so only reads. For changes whose sums leave 64 bits.
    pub(super) fn reading(changes: usize) -> Self {
        let guard = Guard::Range { least: 1, most: 0 };
        Self { guard, net: 0, count: 0, verdicts: vec![Verdict::OutOfRange; changes] }
    }

    /// Whether carrying it out leaves anything in the database. `changes` are those it is for.
    pub(super) fn writes(&self, changes: &[&Change]) -> bool {
        let kept = |(verdict, change): (&Verdict, &&Change)| {
            *verdict == Verdict::Refused && change.key.is_some()
        };
        self.count > 0 || self.verdicts.iter().zip(changes).any(kept)
    }
}

/// Each user's part of a batch in order of arrival; users in order of their ids, in which they are
/// locked.
pub(super) fn by_user<T>(
    batch: impl IntoIterator<Item = T>,
    user_of: impl Fn(&T) -> UserId,
) -> BTreeMap<UserId, Vec<T>> {
    let mut users: BTreeMap<UserId, Vec<T>> = BTreeMap::new();
    for one in batch {
        users.entry(user_of(&one)).or_default().push(one);
    }
    users
}

/// Plans to accept everything, under the condition that it all fits.
///
/// `None` where no balance could take it all.
pub(super) fn whole<'a>(changes: impl Iterator<Item = &'a Change>) -> Option<Plan> {
    let (mut running, mut lowest, mut highest) = (0_i64, 0_i64, 0_i64);
    let mut count = 0_i64;
    let mut keys = Keys::default();
    let mut verdicts = Vec::with_capacity(changes.size_hint().0);
    for (position, change) in changes.enumerate() {
        if let Some(verdict) = keys.seen(change) {
            verdicts.push(verdict);
            continue;
        }
        // A sum beyond 63 bits, up or down, is more than any balance can take.
        running = running.checked_add(change.amount.get())?;
        lowest = lowest.min(running);
        highest = highest.max(running);
        count += 1;
        keys.remember(change, position);
        verdicts.push(Verdict::Accepted { running });
    }
    let least = lowest.checked_neg()?;
    let most = i64::MAX - highest;
    let guard = Guard::Range { least, most };
    (least <= most).then_some(Plan { guard, net: running, count, verdicts })
}

/// Decides one by one, in order of arrival, on a balance that was read with this version.
pub(super) fn each<'a>(
    balance: Balance,
    version: i64,
    changes: impl Iterator<Item = &'a Change>,
) -> Plan {
    let mut now = balance;
    let mut count = 0;
    let mut keys = Keys::default();
    let mut verdicts = Vec::with_capacity(changes.size_hint().0);
    for (position, change) in changes.enumerate() {
        if let Some(verdict) = keys.seen(change) {
            verdicts.push(verdict);
            continue;
        }
        let verdict = match decide(now, change.amount) {
            Ok(Decision::Accepted(after)) => {
                now = after;
                count += 1;
                keys.remember(change, position);
                Verdict::Accepted { running: after - balance }
            }
            Ok(Decision::Refused) => {
                keys.remember(change, position);
                Verdict::Refused
            }
            // Not decided, so it burns no key.
            Err(_) => Verdict::OutOfRange,
        };
        verdicts.push(verdict);
    }
    Plan { guard: Guard::Version(version), net: now - balance, count, verdicts }
}

/// The keys of the batch so far, with the change that used each. Costs nothing without keys.
#[derive(Default)]
struct Keys<'a>(HashMap<&'a Key, (usize, i64)>);

impl<'a> Keys<'a> {
    fn seen(&self, change: &Change) -> Option<Verdict> {
        let (of, amount) = *self.0.get(change.key.as_ref()?)?;
        Some(if amount == change.amount.get() { Verdict::Copy { of } } else { Verdict::KeyReused })
    }

    fn remember(&mut self, change: &'a Change, position: usize) {
        if let Some(key) = &change.key {
            self.0.insert(key, (position, change.amount.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use fastrand::Rng;

    use super::*;
    use crate::balance::{Amount, ChangeError};

    /// The model: one change after the other on one balance, with the keys that were used.
    fn one_by_one(mut balance: Balance, changes: &[Change]) -> (Vec<Verdict>, Balance) {
        let before = balance;
        let mut used: Vec<(&Key, usize)> = Vec::new();
        let mut verdicts = Vec::new();
        for (position, change) in changes.iter().enumerate() {
            let first = change.key.as_ref().and_then(|key| used.iter().find(|(k, _)| *k == key));
            let verdict = match first {
                Some((_, of)) if changes[*of].amount == change.amount => Verdict::Copy { of: *of },
                Some(_) => Verdict::KeyReused,
                None => match i128::from(balance) + i128::from(change.amount.get()) {
                    sum if sum < 0 => Verdict::Refused,
                    sum if sum > i128::from(i64::MAX) => Verdict::OutOfRange,
                    sum => {
                        balance = i64::try_from(sum).unwrap();
                        Verdict::Accepted { running: balance - before }
                    }
                },
            };
            if first.is_none() && verdict != Verdict::OutOfRange {
                used.extend(change.key.as_ref().map(|key| (key, position)));
            }
            verdicts.push(verdict);
        }
        (verdicts, balance)
    }

    fn all_fit(verdicts: &[Verdict]) -> bool {
        !verdicts.iter().any(|v| matches!(v, Verdict::Refused | Verdict::OutOfRange))
    }

    /// Checks both functions against the model, for one balance.
    fn check(balance: Balance, changes: &[Change]) {
        let (verdicts, after) = one_by_one(balance, changes);
        let plan = each(balance, 7, changes.iter());
        let context = || format!("balance {balance}, changes {changes:?}");
        assert_eq!(plan.verdicts, verdicts, "{}", context());
        assert_eq!(balance + plan.net, after, "{}", context());
        let accepted = verdicts.iter().filter(|v| matches!(v, Verdict::Accepted { .. })).count();
        assert_eq!(usize::try_from(plan.count).unwrap(), accepted, "{}", context());

        let fits = match whole(changes.iter()) {
            Some(Plan { guard: Guard::Range { least, most }, net, count, verdicts: planned })
                if (least..=most).contains(&balance) =>
            {
                assert_eq!(planned, verdicts, "{}", context());
                assert_eq!((net, count), (plan.net, plan.count), "{}", context());
                true
            }
            _ => false,
        };
        // Not only is the guard safe, it never turns away a batch that fits.
        assert_eq!(fits, all_fit(&verdicts), "{}", context());
    }

    fn users() -> impl ExactSizeIterator<Item = UserId> {
        [1, 2, 3, 4].map(|id| UserId::new(id).unwrap()).into_iter()
    }

    /// Checks a batch of several users against the model: what each change is answered with.
    fn check_all(balance: impl Fn(UserId) -> Balance, batch: &[Change]) {
        let mut expected = vec![None; batch.len()];
        for user in users() {
            let arrived: Vec<_> = (0..batch.len()).filter(|i| batch[*i].user == user).collect();
            let changes: Vec<_> = arrived.iter().map(|i| batch[*i].clone()).collect();
            let (verdicts, _) = one_by_one(balance(user), &changes);
            for (i, verdict) in arrived.iter().zip(verdicts) {
                expected[*i] = Some(verdict);
            }
        }
        let mut last = None;
        for (user, part) in by_user(batch.iter().enumerate(), |(_, change)| change.user) {
            assert!(last < Some(user), "{batch:?}");
            last = Some(user);
            let plan = each(balance(user), 7, part.iter().map(|(_, change)| *change));
            for ((i, _), verdict) in part.iter().zip(plan.verdicts) {
                assert_eq!(expected[*i].take(), Some(verdict), "{batch:?}");
            }
        }
        assert!(expected.iter().all(Option::is_none), "{batch:?}");
    }

    fn change(amount: i64, key: Option<&str>) -> Change {
        Change {
            user: UserId::FIRST,
            amount: Amount::new(amount).unwrap(),
            key: key.map(|key| Key::new(key).unwrap()),
        }
    }

    /// Small numbers around the line, and numbers at the limits of 64 bits.
    fn any_amount(random: &mut Rng, small: Range<i64>) -> i64 {
        match random.u8(0..16) {
            0 => *random.choice(&[i64::MAX, i64::MAX - 1, -i64::MAX, 1 - i64::MAX]).unwrap(),
            1 => random.i64(-i64::MAX..=i64::MAX),
            2 => random.i64(-i64::MAX / 2..=i64::MAX / 2),
            _ => random.i64(small),
        }
    }

    fn any_case(random: &mut Rng) -> (Balance, Vec<Change>) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let keyed = random.u8(0..4);
        let changes = (0..random.usize(0..12))
            .map(|_| {
                let key = (random.u8(0..4) < keyed).then(|| *random.choice(&NAMES).unwrap());
                change(any_amount(random, -6..7), key)
            })
            .collect();
        let balance = any_amount(random, 0..30);
        (balance.checked_abs().unwrap_or(0), changes)
    }

    #[test]
    fn a_million_generated_batches_come_out_as_one_by_one() {
        // Seeded: the same cases in every run, so that a failure can be repeated.
        let mut random = Rng::with_seed(0x0009_1153_0111);
        for _ in 0..1_000_000 {
            let (balance, changes) = any_case(&mut random);
            check(balance, &changes);
        }
    }

    #[test]
    fn a_million_generated_batches_of_several_users_come_out_as_one_by_one() {
        let mut random = Rng::with_seed(0x0009_1153_0112);
        for _ in 0..1_000_000 {
            let (_, mut batch) = any_case(&mut random);
            for change in &mut batch {
                change.user = random.choice(users()).unwrap();
            }
            let balances: HashMap<_, _> = users().map(|user| (user, random.i64(0..30))).collect();
            check_all(|user| balances[&user], &batch);
        }
    }

    proptest::proptest! {
        /// Fewer cases than above, but a failure is shrunk to its core.
        #[test]
        fn a_batch_comes_out_as_one_by_one(seed in 0_u64..) {
            let (balance, changes) = any_case(&mut Rng::with_seed(seed));
            check(balance, &changes);
        }
    }

    #[test]
    fn the_guard_is_the_lowest_and_the_highest_running_sum() {
        let changes = [change(-3, None), change(5, None), change(-4, None)];
        let plan = whole(changes.iter()).unwrap();
        assert_eq!(plan.guard, Guard::Range { least: 3, most: i64::MAX - 2 });
        assert_eq!((plan.net, plan.count), (-2, 3));
    }

    #[test]
    fn a_batch_of_one_is_the_guarded_update() {
        let plan = whole([change(-2, None)].iter()).unwrap();
        assert_eq!(plan.guard, Guard::Range { least: 2, most: i64::MAX });
        assert_eq!((plan.net, plan.count), (-2, 1));
    }

    #[test]
    fn sums_beyond_64_bits_are_left_to_the_exact_way() {
        assert_eq!(whole([change(i64::MAX, None), change(1, None)].iter()), None);
        assert_eq!(whole([change(-i64::MAX, None), change(-i64::MAX, None)].iter()), None);
        let plan = each(0, 1, [change(i64::MAX, None), change(1, None)].iter());
        assert_eq!(plan.verdicts[1], Verdict::OutOfRange);
        assert!(matches!(
            decide(i64::MAX, Amount::new(1).unwrap()),
            Err(ChangeError::BalanceOutOfRange)
        ));
    }

    #[test]
    fn an_undecided_change_does_not_use_its_key_up() {
        let changes = [change(i64::MAX, Some("a")), change(-1, Some("a")), change(-1, Some("a"))];
        let plan = each(1, 1, changes.iter());
        let accepted = Verdict::Accepted { running: -1 };
        assert_eq!(plan.verdicts, [Verdict::OutOfRange, accepted, Verdict::Copy { of: 1 }]);
    }
}
