//! The fold: plans one user's changes of a batch. Pure, so that tests can compare it with a model.
//!
//! A user's changes, in order of arrival, move the balance by running sums. If the lowest sum does not
//! take it below zero and the highest one does not take it out of range, every change fits in this
//! order. So one comparison with the balance decides all of them ([`whole`]). If it fails, they are
//! decided one by one on a balance that was read ([`each`]).
//!
//! A key that comes twice counts once: the later change gets the outcome of the first one.

use std::collections::{BTreeMap, HashMap};

use crate::ledger::{Amount, Balance, Change, Decision, Funds, Key, UserId};

/// The condition for carrying out a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// `balance >= least` and `balance + held <= most`; then every change fits.
    Range { least: Balance, most: Balance },
    /// The row still has this version, and so the balance on which the plan was decided.
    Version(i64),
}

/// The outcome of one change if the plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    /// Accepted; the new balance is the one before the batch plus `running`.
    Accepted { running: i64 },
    /// A change of zero, which has no journal row. The balance is the one before the batch plus
    /// `running`.
    Read { running: i64 },
    /// Insufficient funds.
    Refused,
    /// The same request as an earlier change with the same key, so it gets the outcome of that one.
    Copy { of: usize },
    /// The same key as an earlier change, but another request.
    KeyReused,
    /// The sum would not fit.
    OutOfRange,
}

/// The plan for one user's changes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) guard: Guard,
    /// The sum of the accepted amounts.
    pub(super) net: i64,
    /// The number of accepted changes that have a journal row.
    pub(super) count: i64,
    /// One for each change, in order of arrival.
    pub(super) changes: Vec<Planned>,
}

impl Plan {
    /// A plan whose guard never holds, so its statement only reads. For changes whose sums leave 64
    /// bits, and for changes that only read.
    pub(super) fn reading(changes: usize) -> Self {
        let guard = Guard::Range { least: 1, most: 0 };
        Self { guard, net: 0, count: 0, changes: vec![Planned::OutOfRange; changes] }
    }

    /// Whether the plan for these changes writes a change or a key.
    pub(super) fn writes(&self, changes: &[&Change]) -> bool {
        let stores_key = |(planned, change): (&Planned, &&Change)| {
            matches!(planned, Planned::Refused | Planned::Read { .. }) && change.key.is_some()
        };
        self.count > 0 || self.changes.iter().zip(changes).any(stores_key)
    }

    /// Whether a change lacks funds.
    pub(super) fn refuses(&self) -> bool {
        self.changes.contains(&Planned::Refused)
    }

    fn new(guard: Guard, net: i64, changes: Vec<Planned>) -> Self {
        let accepted = changes.iter().filter(|one| matches!(one, Planned::Accepted { .. })).count();
        let count = i64::try_from(accepted).expect("a batch is bounded far below that");
        Self { guard, net, count, changes }
    }
}

/// Groups a batch by user. Changes stay in order of arrival; users are in order of their ids, in which
/// they are locked.
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

/// Plans to accept everything, on the condition that it fits. `None` where no balance could take it
/// all.
pub(super) fn whole<'a>(changes: impl Iterator<Item = &'a Change>) -> Option<Plan> {
    let (mut running, mut lowest, mut highest) = (0_i64, 0_i64, 0_i64);
    let planned = plan_each(changes, |amount| {
        // A sum beyond 63 bits, up or down, is more than any balance can take.
        running = running.checked_add(amount.get())?;
        lowest = lowest.min(running);
        highest = highest.max(running);
        Some(accepted(amount, running))
    })?;
    let (least, most) = (lowest.checked_neg()?, i64::MAX - highest);
    (least <= most).then(|| Plan::new(Guard::Range { least, most }, running, planned))
}

/// Decides one by one, in order of arrival, on funds that were read with this version.
pub(super) fn each<'a>(
    funds: Funds,
    version: i64,
    changes: impl Iterator<Item = &'a Change>,
) -> Plan {
    let mut now = funds;
    let planned = plan_each(changes, |amount| {
        Some(match now.decide(amount) {
            Ok(Decision::Accepted(after)) => {
                now.balance = after;
                accepted(amount, after - funds.balance)
            }
            Ok(Decision::Refused) => Planned::Refused,
            Err(_) => Planned::OutOfRange,
        })
    });
    // The closure above plans every change.
    let planned = planned.unwrap_or_default();
    Plan::new(Guard::Version(version), now.balance - funds.balance, planned)
}

fn accepted(amount: Amount, running: i64) -> Planned {
    if amount.is_zero() { Planned::Read { running } } else { Planned::Accepted { running } }
}

/// Plans each change with `plan`, unless an earlier one has its key. `None` as soon as `plan` returns
/// none.
fn plan_each<'a>(
    changes: impl Iterator<Item = &'a Change>,
    mut plan: impl FnMut(Amount) -> Option<Planned>,
) -> Option<Vec<Planned>> {
    // Does not allocate where no change has a key.
    let mut keys: HashMap<&Key, (usize, &Change)> = HashMap::new();
    let mut planned = Vec::with_capacity(changes.size_hint().0);
    for (position, change) in changes.enumerate() {
        let first = change.key.as_ref().and_then(|key| keys.get(key));
        let one = match first {
            Some((of, first)) if first.asks_the_same_as(change) => Planned::Copy { of: *of },
            Some(_) => Planned::KeyReused,
            None => plan(change.amount)?,
        };
        // A change without a decision does not use up its key.
        let is_decided =
            matches!(one, Planned::Accepted { .. } | Planned::Read { .. } | Planned::Refused);
        if let (Some(key), true) = (&change.key, is_decided) {
            keys.insert(key, (position, change));
        }
        planned.push(one);
    }
    Some(planned)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use fastrand::Rng;

    use super::*;
    use crate::ledger::Reference;

    fn is_same(one: &Change, other: &Change) -> bool {
        one.fingerprint() == other.fingerprint()
    }

    /// The model: decides one change after the other on one balance.
    fn one_by_one(funds: Funds, changes: &[Change]) -> (Vec<Planned>, Balance) {
        let Funds { mut balance, held } = funds;
        let before = balance;
        let mut used: Vec<(&Key, usize)> = Vec::new();
        let mut planned = Vec::new();
        for (position, change) in changes.iter().enumerate() {
            let first = change.key.as_ref().and_then(|key| used.iter().find(|(k, _)| *k == key));
            let one = match first {
                Some((_, of)) if is_same(&changes[*of], change) => Planned::Copy { of: *of },
                Some(_) => Planned::KeyReused,
                None => match i128::from(balance) + i128::from(change.amount.get()) {
                    sum if sum < 0 => Planned::Refused,
                    sum if sum + i128::from(held) > i128::from(i64::MAX) => Planned::OutOfRange,
                    _ if change.amount.get() == 0 => Planned::Read { running: balance - before },
                    sum => {
                        balance = i64::try_from(sum).unwrap();
                        Planned::Accepted { running: balance - before }
                    }
                },
            };
            if first.is_none() && one != Planned::OutOfRange {
                used.extend(change.key.as_ref().map(|key| (key, position)));
            }
            planned.push(one);
        }
        (planned, balance)
    }

    fn all_fit(planned: &[Planned]) -> bool {
        !planned.iter().any(|v| matches!(v, Planned::Refused | Planned::OutOfRange))
    }

    /// Checks both functions against the model, for one user.
    fn check(funds: Funds, changes: &[Change]) {
        let Funds { balance, held } = funds;
        let (planned, after) = one_by_one(funds, changes);
        let plan = each(funds, 7, changes.iter());
        let context = || format!("{funds:?}, changes {changes:?}");
        assert_eq!(plan.changes, planned, "{}", context());
        assert_eq!(balance + plan.net, after, "{}", context());
        let accepted = planned.iter().filter(|v| matches!(v, Planned::Accepted { .. })).count();
        assert_eq!(usize::try_from(plan.count).unwrap(), accepted, "{}", context());

        let fits = match whole(changes.iter()) {
            Some(Plan { guard: Guard::Range { least, most }, net, count, changes: all })
                if balance >= least && balance + held <= most =>
            {
                assert_eq!(all, planned, "{}", context());
                assert_eq!((net, count), (plan.net, plan.count), "{}", context());
                true
            }
            _ => false,
        };
        // The guard is not only safe: it accepts every batch that fits.
        assert_eq!(fits, all_fit(&planned), "{}", context());
    }

    fn users() -> impl ExactSizeIterator<Item = UserId> {
        [1, 2, 3, 4].map(|id| UserId::new(id).unwrap()).into_iter()
    }

    /// Checks each change of a batch of several users against the model.
    fn check_all(funds: impl Fn(UserId) -> Funds, batch: &[Change]) {
        let mut expected = vec![None; batch.len()];
        for user in users() {
            let arrived: Vec<_> = (0..batch.len()).filter(|i| batch[*i].user == user).collect();
            let changes: Vec<_> = arrived.iter().map(|i| batch[*i].clone()).collect();
            let (planned, _) = one_by_one(funds(user), &changes);
            for (i, one) in arrived.iter().zip(planned) {
                expected[*i] = Some(one);
            }
        }
        let mut last = None;
        for (user, part) in by_user(batch.iter().enumerate(), |(_, change)| change.user) {
            assert!(last < Some(user), "{batch:?}");
            last = Some(user);
            let plan = each(funds(user), 7, part.iter().map(|(_, change)| *change));
            for ((i, _), one) in part.iter().zip(plan.changes) {
                assert_eq!(expected[*i].take(), Some(one), "{batch:?}");
            }
        }
        assert!(expected.iter().all(Option::is_none), "{batch:?}");
    }

    fn change(amount: i64, key: Option<&str>) -> Change {
        Change {
            user: UserId::FIRST,
            amount: Amount::new(amount).unwrap(),
            key: key.map(|key| Key::new(key).unwrap()),
            reference: None,
        }
    }

    fn free(balance: Balance) -> Funds {
        Funds { balance, held: 0 }
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

    fn any_case(random: &mut Rng) -> (Funds, Vec<Change>) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let keyed = random.u8(0..4);
        let changes = (0..random.usize(0..12))
            .map(|_| {
                let key = (random.u8(0..4) < keyed).then(|| *random.choice(&NAMES).unwrap());
                let mut change = change(any_amount(random, -6..7), key);
                if random.u8(0..8) == 0 {
                    change.reference = Reference::new(random.choice(NAMES).unwrap());
                }
                change
            })
            .collect();
        let balance = any_amount(random, 0..30).checked_abs().unwrap_or(0);
        let held = match random.u8(0..4) {
            0 => i64::MAX - balance,
            1 => random.i64(0..=(i64::MAX - balance).min(30)),
            _ => 0,
        };
        (Funds { balance, held }, changes)
    }

    #[test]
    fn a_million_generated_batches_are_decided_as_one_by_one() {
        // Seeded, so that a failure can be reproduced.
        let mut random = Rng::with_seed(0x0009_1153_0111);
        for _ in 0..1_000_000 {
            let (funds, changes) = any_case(&mut random);
            check(funds, &changes);
        }
    }

    #[test]
    fn a_million_generated_batches_of_several_users_are_decided_as_one_by_one() {
        let mut random = Rng::with_seed(0x0009_1153_0112);
        for _ in 0..1_000_000 {
            let (_, mut batch) = any_case(&mut random);
            for change in &mut batch {
                change.user = random.choice(users()).unwrap();
            }
            let balances: HashMap<_, _> = users().map(|user| (user, random.i64(0..30))).collect();
            check_all(|user| free(balances[&user]), &batch);
        }
    }

    proptest::proptest! {
        /// Fewer cases than above, but a failure is shrunk.
        #[test]
        fn a_batch_is_decided_as_one_by_one(seed in 0_u64..) {
            let (funds, changes) = any_case(&mut Rng::with_seed(seed));
            check(funds, &changes);
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
    fn changes_of_zero_write_nothing_but_their_keys() {
        let keyless = [change(0, None), change(0, None)];
        let keyed = [change(0, None), change(0, Some("a"))];
        for (changes, writes) in [(&keyless, false), (&keyed, true)] {
            for plan in [whole(changes.iter()).unwrap(), each(free(0), 1, changes.iter())] {
                assert_eq!((plan.net, plan.count), (0, 0));
                assert_eq!(plan.changes, [Planned::Read { running: 0 }; 2]);
                assert_eq!(plan.writes(&changes.iter().collect::<Vec<_>>()), writes);
            }
        }
    }

    #[test]
    fn a_change_of_zero_reads_the_balance_at_its_place_in_the_order() {
        let changes = [change(-3, None), change(0, Some("a")), change(5, None)];
        let plan = whole(changes.iter()).unwrap();
        assert_eq!((plan.net, plan.count), (2, 2));
        assert_eq!(plan.changes[1], Planned::Read { running: -3 });
    }

    #[test]
    fn sums_beyond_64_bits_are_decided_one_by_one() {
        assert_eq!(whole([change(i64::MAX, None), change(1, None)].iter()), None);
        assert_eq!(whole([change(-i64::MAX, None), change(-i64::MAX, None)].iter()), None);
        let plan = each(free(0), 1, [change(i64::MAX, None), change(1, None)].iter());
        assert_eq!(plan.changes[1], Planned::OutOfRange);
    }

    #[test]
    fn the_same_key_with_another_reference_is_another_request() {
        let mut changes = [change(-1, Some("a")), change(-1, Some("a"))];
        changes[1].reference = Reference::new("rent");
        for plan in [whole(changes.iter()).unwrap(), each(free(1), 1, changes.iter())] {
            assert_eq!(plan.changes[1], Planned::KeyReused);
        }
    }

    #[test]
    fn an_undecided_change_does_not_use_up_its_key() {
        let changes = [change(i64::MAX, Some("a")), change(-1, Some("a")), change(-1, Some("a"))];
        let plan = each(free(1), 1, changes.iter());
        let accepted = Planned::Accepted { running: -1 };
        assert_eq!(plan.changes, [Planned::OutOfRange, accepted, Planned::Copy { of: 1 }]);
    }
}
