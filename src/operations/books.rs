//! What a batch of operations is decided on, and what the decisions lead to.
//!
//! [`Books`] has the rows under their locks. An operation works on a [`Draft`] of them. A draft that is
//! accepted changes the books, so the next operation sees its effect; any other draft is dropped, and has
//! changed nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ledger::{
    Amount, Balance, ChangeError, Decision, Funds, HoldNumber, HoldState, Key, Part, Timestamp,
    UserId,
};
use crate::store::keys::Stored;
use crate::store::posting::{EntryKind, EntryRow, HoldRow, KeyRow, Posting, UserRow};

/// The rows that a batch needs, all locked.
#[derive(Debug)]
pub(super) struct Books {
    /// The stamp of everything that the batch writes. A hold that expires then or before has expired.
    pub(super) stamp: Timestamp,
    /// The users that exist.
    pub(super) users: HashMap<UserId, UserRow>,
    /// Users who have an open hold that has expired.
    pub(super) with_expired_holds: BTreeSet<UserId>,
    /// The holds that are asked for and exist.
    pub(super) holds: HashMap<(UserId, HoldNumber), HoldRow>,
    /// What the keys of the batch were used for.
    pub(super) keys: HashMap<(UserId, Key), Stored>,
}

/// Why an operation is not applied.
#[derive(Debug)]
pub(super) enum Stop {
    /// This user lacks funds; of a bulk, for the change at this position.
    Refused { user: UserId, at: Option<usize> },
    /// Expired holds of this user have to be released first.
    HoldsExpired(UserId),
    /// It is not decided.
    Error(ChangeError),
}

impl From<ChangeError> for Stop {
    fn from(error: ChangeError) -> Self {
        Self::Error(error)
    }
}

/// What one operation would change.
#[derive(Debug)]
pub(super) struct Draft<'b, 'a> {
    books: &'b Books,
    users: BTreeMap<UserId, UserRow>,
    entries: Vec<EntryRow<'a>>,
    holds: Vec<HoldRow>,
}

/// An entry of the journal without the numbers that the books know.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewEntry<'a> {
    pub(super) kind: EntryKind,
    pub(super) amount: i64,
    pub(super) held_amount: i64,
    pub(super) key: Option<&'a Key>,
    pub(super) reference: Option<&'a str>,
    pub(super) hold: Option<HoldNumber>,
    pub(super) peer: Option<(UserId, i64)>,
}

impl NewEntry<'_> {
    /// An entry that changes nothing yet.
    pub(super) fn of(kind: EntryKind) -> Self {
        Self { kind, amount: 0, held_amount: 0, key: None, reference: None, hold: None, peer: None }
    }
}

impl<'b, 'a> Draft<'b, 'a> {
    pub(super) fn new(books: &'b Books) -> Self {
        Self { books, users: BTreeMap::new(), entries: Vec::new(), holds: Vec::new() }
    }

    /// The stamp of the batch.
    pub(super) fn stamp(&self) -> Timestamp {
        self.books.stamp
    }

    /// A user as of now.
    pub(super) fn user(&self, user: UserId) -> Result<UserRow, ChangeError> {
        let row = self.users.get(&user).or_else(|| self.books.users.get(&user));
        row.copied().ok_or(ChangeError::UserNotFound)
    }

    /// A hold as of now.
    pub(super) fn hold(&self, user: UserId, hold: HoldNumber) -> Result<HoldRow, ChangeError> {
        self.books.holds.get(&(user, hold)).copied().ok_or(ChangeError::HoldNotFound)
    }

    /// The balance after a withdrawal, which the caller then posts.
    pub(super) fn withdrawn(&self, user: UserId, amount: Amount) -> Result<Balance, Stop> {
        match self.user(user)?.funds.decide(amount)? {
            Decision::Accepted(after) => Ok(after),
            Decision::Refused => Err(Stop::Refused { user, at: None }),
        }
    }

    /// Checks that a deposit fits, which the caller then posts. The error names the part.
    pub(super) fn check_deposit(
        &self,
        user: UserId,
        amount: Amount,
        part: Part,
    ) -> Result<(), ChangeError> {
        let decided = self.user(user).and_then(|row| row.funds.decide(amount));
        decided.map(drop).map_err(|error| part.error(error))
    }

    /// Posts an entry whose amounts fit, and returns the user right after it.
    pub(super) fn post(
        &mut self,
        user: UserId,
        entry: NewEntry<'a>,
    ) -> Result<UserRow, ChangeError> {
        let NewEntry { kind, amount, held_amount, key, reference, hold, peer } = entry;
        let before = self.user(user)?;
        let funds =
            Funds { balance: before.funds.balance + amount, held: before.funds.held + held_amount };
        let after = UserRow { user, funds, version: before.version + 1 };
        self.users.insert(user, after);
        let key = key.map(Key::as_str);
        let entry = EntryRow { after, kind, amount, held_amount, key, reference, hold, peer };
        self.entries.push(entry);
        Ok(after)
    }

    /// Makes a hold, or resolves one.
    pub(super) fn write_hold(&mut self, hold: HoldRow) {
        self.holds.push(hold);
    }

    /// What is left of the draft when it is accepted.
    pub(super) fn accept(self) -> Accepted<'a> {
        Accepted { users: self.users, entries: self.entries, holds: self.holds }
    }
}

/// What an accepted operation changes.
pub(super) struct Accepted<'a> {
    users: BTreeMap<UserId, UserRow>,
    entries: Vec<EntryRow<'a>>,
    holds: Vec<HoldRow>,
}

/// Collects what the accepted operations of a batch change.
#[derive(Debug, Default)]
pub(super) struct Ledger<'a> {
    users: BTreeMap<UserId, UserRow>,
    entries: Vec<EntryRow<'a>>,
    /// Each hold in its last state, and whether this batch has made it.
    holds: BTreeMap<(UserId, HoldNumber), (HoldRow, bool)>,
    keys: Vec<KeyRow<'a>>,
}

impl<'a> Ledger<'a> {
    /// Applies an accepted operation to the books.
    pub(super) fn apply(&mut self, books: &mut Books, accepted: Accepted<'a>) {
        let Accepted { users, entries, holds } = accepted;
        for (user, row) in users {
            books.users.insert(user, row);
            self.users.insert(user, row);
        }
        self.entries.extend(entries);
        for row in holds {
            let place = (row.user, row.hold);
            let existed = books.holds.insert(place, row).is_some();
            self.holds.entry(place).and_modify(|(last, _)| *last = row).or_insert((row, !existed));
        }
    }

    /// Stores a decision with its key. A later operation of the batch with the same key replays it.
    pub(super) fn store_key(&mut self, books: &mut Books, key: &Key, row: KeyRow<'a>) {
        let stored = Stored::from_columns(row.fingerprint.clone(), row.answer.clone());
        books.keys.insert((row.user, key.clone()), stored);
        self.keys.push(row);
    }

    /// Everything to write.
    pub(super) fn posting(self) -> Posting<'a> {
        let (made, resolved): (Vec<_>, Vec<_>) =
            self.holds.into_values().partition(|(_, is_new)| *is_new);
        let rows = |holds: Vec<(HoldRow, bool)>| holds.into_iter().map(|(row, _)| row).collect();
        Posting {
            users: self.users.into_values().collect(),
            entries: self.entries,
            made: rows(made),
            resolved: rows(resolved),
            keys: self.keys,
        }
    }
}

/// Whether a hold can still be captured or released.
pub(super) fn check_open(hold: &HoldRow, stamp: Timestamp) -> Result<(), Stop> {
    match hold.state {
        HoldState::Resolved(resolution) => Err(ChangeError::HoldResolved(resolution).into()),
        HoldState::Open if hold.expires_at <= stamp => Err(Stop::HoldsExpired(hold.user)),
        HoldState::Open => Ok(()),
    }
}
