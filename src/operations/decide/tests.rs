//! The decisions on a batch against a model that knows one operation at a time, for generated batches.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fastrand::Rng;

use super::*;
use crate::ledger::{
    AllOrNone, Amount, Capture, Change, Funds, HoldNumber, HoldPeriod, HoldState, Key, Part,
    Payment, Position, Release, Reserve, Resolution, Timestamp, Transfer,
};
use crate::store::posting::{HoldRow, UserRow};

/// Users 1 to 3 exist, user 4 does not.
const USERS: i64 = 3;

const STAMP: Timestamp = Timestamp::from_micros(1_000_000_000);

/// The state of everything, in the plainest form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    /// Balance, held money, version.
    users: BTreeMap<i64, (i128, i128, i64)>,
    /// Amount, state, and whether its time is over.
    holds: BTreeMap<(i64, HoldNumber), (i128, &'static str, bool)>,
    /// What the keys were used for, and the answers.
    keys: BTreeMap<(i64, String), (String, String)>,
}

/// What the model says about an operation, as a text.
type Said = Result<String, String>;

const FITS: i128 = i64::MAX as i128;

impl Model {
    fn decide(&mut self, operation: &Operation) -> Said {
        let place = operation.key().map(|key| (operation.owner().get(), key.as_str().to_owned()));
        let asked = operation.fingerprint().as_str().to_owned();
        if let Some((before, answer)) = place.as_ref().and_then(|place| self.keys.get(place)) {
            let reused = Err(ChangeError::KeyReused.to_string());
            return if *before == asked { Ok(format!("replayed {answer}")) } else { reused };
        }
        let before = self.clone();
        let answer = match self.apply(operation) {
            Ok(answer) => answer,
            Err(Said::Ok(refusal)) => {
                *self = before;
                refusal
            }
            Err(Said::Err(error)) => {
                *self = before;
                return Err(error);
            }
        };
        if let Some(place) = place {
            self.keys.insert(place, (asked, answer.clone()));
        }
        Ok(answer)
    }

    /// An error is a refusal (`Ok`), or nothing was decided.
    fn apply(&mut self, operation: &Operation) -> Result<String, Said> {
        match operation {
            Operation::Transfer(Transfer { from, to, amount, .. }) => {
                self.exists(from.get(), "from: ")?;
                self.exists(to.get(), "to: ")?;
                self.withdraw(from.get(), amount.get(), "")?;
                self.deposit(to.get(), amount.get(), "to: ")?;
                let (payer, payee) = (self.users[&from.get()], self.users[&to.get()]);
                Ok(format!("{} v{} / {} v{}", payer.0, payer.2, payee.0, payee.2))
            }
            Operation::Reserve(Reserve { user, amount, .. }) => {
                self.exists(user.get(), "")?;
                self.withdraw(user.get(), amount.get(), "")?;
                let row = self.users.get_mut(&user.get()).unwrap();
                row.1 += i128::from(amount.get());
                let hold = row.2;
                let text = format!("hold {hold}: {} {}", row.0, row.1);
                self.holds.insert((user.get(), hold), (amount.get().into(), "open", false));
                Ok(text)
            }
            Operation::Capture(Capture { user, hold, amount, to, .. }) => {
                let held = self.open(user.get(), *hold)?;
                let taken = amount.map_or(held, |amount| amount.get().into());
                if taken > held {
                    return Err(Err(format!("amount must not be more than the hold's {held}")));
                }
                if let Some(to) = to {
                    self.exists(to.get(), "to: ")?;
                    self.deposit(to.get(), i64::try_from(taken).unwrap(), "to: ")?;
                }
                self.resolve(user.get(), *hold, held, held - taken, "captured");
                let row = self.users[&user.get()];
                Ok(format!("captured {taken}: {} {}", row.0, row.1))
            }
            Operation::Release(Release { user, hold, .. }) => {
                let held = self.open(user.get(), *hold)?;
                self.resolve(user.get(), *hold, held, held, "released");
                let row = self.users[&user.get()];
                Ok(format!("released: {} {}", row.0, row.1))
            }
            Operation::AllOrNone(all) => {
                let mut balances = Vec::new();
                for (position, change) in all.changes.iter().enumerate() {
                    let (user, amount) = (change.user.get(), change.amount.get());
                    let part = format!("changes[{position}]: ");
                    self.exists(user, &part)?;
                    match amount {
                        0 => {}
                        1.. => self.deposit(user, amount, &part)?,
                        _ => self.withdraw(user, -amount, &part)?,
                    }
                    balances.push(self.users[&user].0);
                }
                Ok(format!("{balances:?}"))
            }
        }
    }

    fn exists(&self, user: i64, part: &str) -> Result<(), Said> {
        let missing = || Err(format!("{part}User not found"));
        if self.users.contains_key(&user) { Ok(()) } else { Err(missing()) }
    }

    fn withdraw(&mut self, user: i64, amount: i64, part: &str) -> Result<(), Said> {
        let row = self.users.get_mut(&user).unwrap();
        if row.0 < amount.into() {
            let is_over = |(place, hold): (&(i64, i64), &(i128, &str, bool))| {
                place.0 == user && hold.1 == "open" && hold.2
            };
            if self.holds.iter().any(is_over) {
                return Err(Err(format!("expired holds of {user}")));
            }
            return Err(Ok(format!("{part}Insufficient funds")));
        }
        row.0 -= i128::from(amount);
        row.2 += 1;
        Ok(())
    }

    fn deposit(&mut self, user: i64, amount: i64, part: &str) -> Result<(), Said> {
        let row = self.users.get_mut(&user).unwrap();
        if row.0 + row.1 + i128::from(amount) > FITS {
            return Err(Err(format!("{part}Balance out of range")));
        }
        row.0 += i128::from(amount);
        row.2 += 1;
        Ok(())
    }

    /// The amount of a hold that can be resolved.
    fn open(&self, user: i64, hold: HoldNumber) -> Result<i128, Said> {
        self.exists(user, "")?;
        match self.holds.get(&(user, hold)) {
            None => Err(Err("Hold not found".into())),
            Some((_, "open", true)) => Err(Err(format!("expired holds of {user}"))),
            Some((amount, "open", false)) => Ok(*amount),
            Some((_, state, _)) => Err(Err(format!("The hold is {state}"))),
        }
    }

    fn resolve(
        &mut self,
        user: i64,
        hold: HoldNumber,
        amount: i128,
        back: i128,
        state: &'static str,
    ) {
        let row = self.users.get_mut(&user).unwrap();
        row.0 += back;
        row.1 -= amount;
        row.2 += 1;
        self.holds.get_mut(&(user, hold)).unwrap().1 = state;
    }

    /// The same state, as a batch reads it.
    fn books(&self) -> Books {
        let number = |wide: i128| i64::try_from(wide).unwrap();
        let users = self.users.iter().map(|(id, (balance, held, version))| {
            let funds = Funds { balance: number(*balance), held: number(*held) };
            let user = user(*id);
            (user, UserRow { user, funds, version: *version })
        });
        let holds = self.holds.iter().map(|((id, hold), (amount, state, is_over))| {
            let expires = STAMP.micros() + if *is_over { 0 } else { 1 };
            let row = HoldRow {
                user: user(*id),
                hold: *hold,
                amount: number(*amount),
                captured: 0,
                state: HoldState::from_name(state).unwrap(),
                expires_at: Timestamp::from_micros(expires),
            };
            ((row.user, row.hold), row)
        });
        let expired = self.holds.iter().filter(|(_, hold)| hold.1 == "open" && hold.2);
        Books {
            stamp: STAMP,
            users: users.collect(),
            with_expired_holds: expired.map(|((id, _), _)| user(*id)).collect(),
            holds: holds.collect(),
            keys: HashMap::new(),
        }
    }
}

fn said(decided: &Decided) -> Said {
    let outcome = match decided {
        Decided::HoldsExpired { .. } => unreachable!("is compared by its users"),
        Decided::Done(Err(error)) => return Err(error.to_string()),
        Decided::Done(Ok(outcome)) => outcome,
    };
    let text = match &outcome.decision {
        OperationDecision::Transferred { from, to } => {
            let side = |side: &Position| format!("{} v{}", side.balance, side.version);
            format!("{} / {}", side(from), side(to))
        }
        OperationDecision::Reserved { hold, balance, held, .. } => {
            format!("hold {hold}: {balance} {held}")
        }
        OperationDecision::Captured { captured, balance, held } => {
            format!("captured {captured}: {balance} {held}")
        }
        OperationDecision::Released { balance, held } => format!("released: {balance} {held}"),
        OperationDecision::AllApplied(balances) => format!("{balances:?}"),
        OperationDecision::Refused { at: None } => "Insufficient funds".into(),
        OperationDecision::Refused { at: Some(position) } => {
            format!("{}: Insufficient funds", Part::Change(*position))
        }
    };
    Ok(if outcome.replayed { format!("replayed {text}") } else { text })
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// Small amounts around the line, and amounts at the limit of 64 bits.
fn any_payment(random: &mut Rng) -> Payment {
    let amount = match random.u8(0..12) {
        0 => i64::MAX,
        1 => random.i64(1..i64::MAX),
        _ => random.i64(1..8),
    };
    Payment::new(amount).unwrap()
}

fn any_user(random: &mut Rng) -> UserId {
    user(if random.u8(0..12) == 0 { USERS + 1 } else { random.i64(1..=USERS) })
}

fn any_operation(random: &mut Rng) -> Operation {
    let key = (random.u8(0..3) == 0).then(|| Key::new(random.choice(["a", "b", "c"]).unwrap()));
    let key = key.flatten();
    let (user, hold) = (any_user(random), random.i64(1..12));
    let other = loop {
        let other = any_user(random);
        if other != user {
            break other;
        }
    };
    match random.u8(0..5) {
        0 => Operation::Transfer(Transfer {
            from: user,
            to: other,
            amount: any_payment(random),
            key,
            reference: None,
        }),
        1 => Operation::Reserve(Reserve {
            user,
            amount: any_payment(random),
            expires_in: HoldPeriod::DEFAULT,
            key,
            reference: None,
        }),
        2 => {
            let amount = random.bool().then(|| any_payment(random));
            let to = random.bool().then_some(other);
            Operation::Capture(Capture { user, hold, amount, to, key })
        }
        3 => Operation::Release(Release { user, hold, key }),
        _ => {
            let changes = (0..random.usize(1..5)).map(|_| any_change(random)).collect();
            Operation::AllOrNone(AllOrNone { changes, key })
        }
    }
}

fn any_change(random: &mut Rng) -> Change {
    let amount = match random.u8(0..4) {
        0 => 0,
        1 => any_payment(random).get(),
        _ => -random.i64(1..8),
    };
    let amount = Amount::new(amount).unwrap();
    Change { user: any_user(random), amount, key: None, reference: None }
}

/// Users with some holds, of which some are open and some of these are over.
fn any_model(random: &mut Rng) -> Model {
    let (mut users, mut holds) = (BTreeMap::new(), BTreeMap::new());
    for id in 1..=USERS {
        let mut held = 0_i128;
        let version = random.i64(0..6);
        for hold in 1..=version {
            if random.bool() {
                let amount = i128::from(random.i64(1..9));
                let state =
                    *random.choice(&["open", "open", "captured", "released", "expired"]).unwrap();
                held += if state == "open" { amount } else { 0 };
                holds.insert((id, hold), (amount, state, random.u8(0..3) == 0));
            }
        }
        let balance = match random.u8(0..6) {
            0 => FITS - held,
            _ => i128::from(random.i64(0..20)),
        };
        users.insert(id, (balance, held, version));
    }
    Model { users, holds, keys: BTreeMap::new() }
}

fn check(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut model = any_model(&mut random);
    let operations: Vec<Operation> =
        (0..random.usize(1..12)).map(|_| any_operation(&mut random)).collect();
    let (before, books) = (model.clone(), model.books());
    let (decided, posting) = decide(books, &operations);
    for (operation, decided) in operations.iter().zip(&decided) {
        let expected = model.decide(operation);
        if let Decided::HoldsExpired { users, at } = decided {
            let is_named = |user: &UserId| expected == Err(format!("expired holds of {user}"));
            assert!(users.iter().any(is_named), "seed {seed}: {operation:?}: {expected:?}");
            assert_eq!(*at, STAMP);
            continue;
        }
        assert_eq!(said(decided), expected, "seed {seed}: {operation:?}");
    }
    assert_eq!(decided.len(), operations.len());
    check_posting(&before, &model, &posting, seed);
}

/// What is written leads from the state before to the state after, entry by entry.
fn check_posting(before: &Model, after: &Model, posting: &Posting<'_>, seed: u64) {
    let mut written = before.clone();
    for entry in &posting.entries {
        let row = written.users.get_mut(&entry.after.user.get()).unwrap();
        row.0 += i128::from(entry.amount);
        row.1 += i128::from(entry.held_amount);
        row.2 += 1;
        let UserRow { funds: Funds { balance, held }, version, .. } = entry.after;
        assert_eq!(*row, (balance.into(), held.into(), version), "seed {seed}: {entry:?}");
        assert!(row.0 >= 0 && row.1 >= 0 && row.0 + row.1 <= FITS, "seed {seed}: {entry:?}");
        assert!(entry.amount != 0 || entry.held_amount != 0, "seed {seed}: {entry:?}");
        if let Some((peer, version)) = entry.peer {
            let is_peer = |other: &&EntryOf<'_>| {
                other.after.user == peer
                    && other.after.version == version
                    && other.peer == Some((entry.after.user, entry.after.version))
            };
            let peer = posting.entries.iter().find(is_peer).expect("the peer names it back");
            let sum = entry.amount + entry.held_amount + peer.amount + peer.held_amount;
            assert_eq!(sum, 0, "seed {seed}: {entry:?} {peer:?}");
        }
    }
    assert_eq!(written.users, after.users, "seed {seed}");
    let changed: BTreeSet<UserId> = posting.entries.iter().map(|entry| entry.after.user).collect();
    assert_eq!(posting.users.iter().map(|row| row.user).collect::<BTreeSet<_>>(), changed);
    for row in &posting.users {
        let UserRow { user, funds: Funds { balance, held }, version } = *row;
        let expected = (balance.into(), held.into(), version);
        assert_eq!(after.users[&user.get()], expected, "seed {seed}");
    }
    check_holds(before, after, posting, seed);
    let keys: BTreeSet<(i64, String)> =
        posting.keys.iter().map(|row| (row.user.get(), row.key.to_owned())).collect();
    assert_eq!(keys.len(), posting.keys.len(), "seed {seed}: a key is written twice");
    assert_eq!(keys, after.keys.keys().cloned().collect(), "seed {seed}");
    let entries_with_key = posting.entries.iter().filter(|entry| entry.key.is_some());
    let mut seen = BTreeSet::new();
    for entry in entries_with_key {
        let place = (entry.after.user.get(), entry.key.unwrap().to_owned());
        assert!(keys.contains(&place), "seed {seed}: {entry:?}");
        assert!(seen.insert(place), "seed {seed}: a key has two entries");
    }
}

type EntryOf<'a> = crate::store::posting::EntryRow<'a>;

fn check_holds(before: &Model, after: &Model, posting: &Posting<'_>, seed: u64) {
    let mut holds = before.holds.clone();
    for row in &posting.made {
        let made = (row.amount.into(), state(row), false);
        let is_new = holds.insert((row.user.get(), row.hold), made).is_none();
        assert!(is_new, "seed {seed}: {row:?}");
        assert_eq!(row.expires_at, STAMP.after(HoldPeriod::DEFAULT), "seed {seed}");
    }
    for row in &posting.resolved {
        let hold = holds.get_mut(&(row.user.get(), row.hold)).unwrap();
        assert_eq!(hold.1, "open", "seed {seed}: {row:?}");
        hold.1 = state(row);
    }
    assert_eq!(holds, after.holds, "seed {seed}");
    for row in posting.made.iter().chain(&posting.resolved) {
        let is_captured = row.state == HoldState::Resolved(Resolution::Captured);
        assert_eq!(row.captured > 0, is_captured, "seed {seed}: {row:?}");
        assert!(row.captured <= row.amount, "seed {seed}: {row:?}");
    }
}

fn state(row: &HoldRow) -> &'static str {
    match row.state {
        HoldState::Open => "open",
        HoldState::Resolved(Resolution::Captured) => "captured",
        HoldState::Resolved(Resolution::Released) => "released",
        HoldState::Resolved(Resolution::Expired) => "expired",
    }
}

#[test]
fn generated_batches_are_decided_as_one_by_one() {
    for seed in 0..50_000 {
        check(seed);
    }
}

proptest::proptest! {
    /// Other cases each time.
    #[test]
    fn a_batch_is_decided_as_one_by_one(seed in 0_u64..) {
        check(seed);
    }
}

#[test]
fn a_hold_that_is_made_and_captured_in_one_batch_is_written_once() {
    let mut model = Model { users: BTreeMap::new(), holds: BTreeMap::new(), keys: BTreeMap::new() };
    model.users.insert(1, (10, 0, 0));
    let reserve = Operation::Reserve(Reserve {
        user: user(1),
        amount: Payment::new(4).unwrap(),
        expires_in: HoldPeriod::DEFAULT,
        key: None,
        reference: None,
    });
    let capture =
        Operation::Capture(Capture { user: user(1), hold: 1, amount: None, to: None, key: None });
    let (_, posting) = decide(model.books(), [&reserve, &capture]);
    assert_eq!((posting.made.len(), posting.resolved.len()), (1, 0));
    assert_eq!(state(&posting.made[0]), "captured");
}
