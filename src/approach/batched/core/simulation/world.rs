//! The simulated database: rows, versions, keys and locks, and what a statement does to them.
//!
//! It is written from the guarantees of PostgreSQL and not from the text of the statements. A statement
//! sees a snapshot, waits for the rows that satisfy its guard, checks the guard again on their newest
//! versions, and commits everything or nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::super::fold::{Guard, Plan, Planned, each};
use super::super::super::statement::{Part, Reply};
use super::super::{Locked, LockedReply, Request, Response, Time};
use super::story::{Ask, Story};
use crate::approach::guarded_update::Updated;
use crate::ledger::{Amount, Change, Decision, Funds, Key, UserId};
use crate::store::held::Probed;
use crate::store::keys::{self, Stored};

/// How long a batch waits for a row, and how long a request that locks first waits.
const LOCK_WAIT: Duration = Duration::from_millis(100);
const LOCKED_WAIT: Duration = Duration::from_millis(500);

/// How often a busy row is changed, and how long a statement queues for its lock.
const BUSY_STEP: Duration = Duration::from_millis(20);
const BUSY_WAIT: Duration = Duration::from_millis(200);

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) at: Time,
    pub(super) amount: i64,
    pub(super) balance: i64,
    pub(super) key: Option<String>,
    /// Another instance wrote it.
    pub(super) by_another: bool,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) balance: i64,
    pub(super) version: i64,
    pub(super) journal: Vec<Written>,
    /// Another session holds its lock until then.
    held: Time,
    /// Other sessions lock and change it one after the other: the last change, and the end.
    busy: Option<(Time, Time)>,
}

/// A used key and its decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredKey {
    pub(super) at: Time,
    pub(super) amount: i64,
    pub(super) decision: Decision,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) rows: BTreeMap<i64, Row>,
    pub(super) keys: BTreeMap<(i64, String), StoredKey>,
    /// All rows are locked until then.
    table_locked: Time,
    /// An old bug: the keys of changes whose sums leave 64 bits are not looked up.
    pub(super) reads_without_keys: bool,
}

/// An owned copy of a request, which may be carried out long after the request has failed.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Alone(Change),
    Batch(Vec<OwnedPart>),
    Locked { user: UserId, changes: Vec<Change> },
    Probe(Vec<UserId>),
}

#[derive(Clone, Debug)]
pub(super) struct OwnedPart {
    user: UserId,
    plan: Plan,
    changes: Vec<Change>,
}

impl OwnedPart {
    fn part(&self) -> Part<'_> {
        Part { user: self.user, plan: &self.plan, changes: self.changes.iter().collect() }
    }
}

impl Statement {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let owned = |changes: &[&Change]| changes.iter().map(|change| (*change).clone()).collect();
        match request {
            Request::Alone(change) => Self::Alone((*change).clone()),
            Request::Batch(parts) => {
                let part = |part: &Part<'_>| OwnedPart {
                    user: part.user,
                    plan: part.plan.clone(),
                    changes: owned(&part.changes),
                };
                Self::Batch(parts.iter().map(part).collect())
            }
            Request::Locked { user, changes } => {
                Self::Locked { user: *user, changes: owned(changes) }
            }
            Request::Probe(users) => Self::Probe(users.to_vec()),
            Request::ReleaseHolds(_) => unreachable!("the simulation has no holds"),
        }
    }

    pub(super) fn users(&self) -> Vec<i64> {
        match self {
            Self::Alone(change) => vec![change.user.get()],
            Self::Batch(parts) => parts.iter().map(|part| part.user.get()).collect(),
            Self::Locked { user, .. } => vec![user.get()],
            Self::Probe(users) => users.iter().map(|user| user.get()).collect(),
        }
    }
}

/// When a statement that begins now gets its locks.
pub(super) enum Locks {
    /// It gets them then.
    At(Time),
    /// It times out then.
    TimeOut(Time),
}

impl World {
    pub(super) fn begin(story: &Story) -> Self {
        let row = |balance: &i64| Row {
            balance: *balance,
            version: 0,
            journal: Vec::new(),
            held: Duration::ZERO,
            busy: None,
        };
        let rows = (1..).zip(story.balances.iter().map(row)).collect();
        let keys = BTreeMap::new();
        Self { rows, keys, table_locked: Duration::ZERO, reads_without_keys: false }
    }

    pub(super) fn hold(&mut self, user: i64, until: Time) {
        if let Some(row) = self.rows.get_mut(&user) {
            row.held = row.held.max(until);
        }
    }

    pub(super) fn lock_table(&mut self, until: Time) {
        self.table_locked = self.table_locked.max(until);
    }

    pub(super) fn keep_busy(&mut self, user: i64, from: Time, until: Time) {
        if let Some(row) = self.rows.get_mut(&user) {
            row.busy = Some((from, until));
        }
    }

    /// Applies the changes to busy rows until now.
    pub(super) fn catch_up(&mut self, now: Time) {
        for row in self.rows.values_mut() {
            let Some((mut last, until)) = row.busy else { continue };
            while last + BUSY_STEP <= now.min(until) {
                last += BUSY_STEP;
                // Time passes even where the row cannot be changed.
                if last >= self.table_locked && row.balance < i64::MAX / 2 {
                    row.write_for_another(last, 1, None);
                }
            }
            row.busy = (now < until).then_some((last, until));
        }
    }

    /// Applies a change of another instance, unless the row is locked.
    pub(super) fn other(&mut self, ask: &Ask, now: Time) {
        let is_used = |key: &String| self.keys.contains_key(&(ask.user, key.clone()));
        if ask.key.as_ref().is_some_and(is_used) {
            return;
        }
        if self.table_locked > now {
            return;
        }
        let Some(row) = self.rows.get_mut(&ask.user).filter(|row| row.held <= now) else { return };
        let amount = Amount::new(ask.amount).unwrap();
        let Ok(decision) = row.funds().decide(amount) else { return };
        if matches!(decision, Decision::Accepted(_)) && !amount.is_zero() {
            row.write_for_another(now, ask.amount, ask.key.clone());
        }
        if let Some(key) = &ask.key {
            self.store_key(ask.user, key, StoredKey { at: now, amount: ask.amount, decision });
        }
    }

    /// When the statement gets its locks.
    pub(super) fn locks(&self, statement: &Statement, now: Time) -> Locks {
        if self.table_locked > now {
            // A statement locks the table before its rows.
            return match self.table_locked {
                until if until > now + LOCK_WAIT => Locks::TimeOut(now + LOCK_WAIT),
                until => self.locks(statement, until),
            };
        }
        let (wanted, wait): (Vec<i64>, _) = match statement {
            Statement::Probe(_) => return Locks::At(now),
            Statement::Alone(change) => {
                let fits = |row: &Row| {
                    row.balance.checked_add(change.amount.get()).is_some_and(|sum| sum >= 0)
                };
                (self.wanted(change.user, fits).collect(), LOCK_WAIT)
            }
            Statement::Batch(parts) if self.used(parts).next().is_none() => {
                let wanted = parts
                    .iter()
                    .flat_map(|part| self.wanted(part.user, |row| row.fits(part.plan.guard)));
                (wanted.collect(), LOCK_WAIT)
            }
            Statement::Batch(_) => return Locks::At(now),
            Statement::Locked { user, .. } => (vec![user.get()], LOCKED_WAIT),
        };
        let mut at = now;
        for row in wanted.iter().filter_map(|user| self.rows.get(user)) {
            let mut free = row.held;
            if let Some((_, until)) = row.busy {
                free = free.max(until.min(at + BUSY_WAIT));
            }
            if free > at + wait {
                return Locks::TimeOut(at + wait);
            }
            at = at.max(free);
        }
        Locks::At(at)
    }

    /// The user, if the statement is to change that row.
    fn wanted(&self, user: UserId, wants: impl Fn(&Row) -> bool) -> std::option::IntoIter<i64> {
        let row = self.rows.get(&user.get()).filter(|row| wants(row));
        row.map(|_| user.get()).into_iter()
    }

    /// Carries out a statement that has its locks. `meanwhile` commits after its snapshot.
    ///
    /// # Errors
    /// The SQLSTATE. Nothing was applied.
    pub(super) fn carry_out(
        &mut self,
        statement: &Statement,
        now: Time,
        meanwhile: Option<&Ask>,
    ) -> Result<Response, &'static str> {
        match statement {
            Statement::Probe(users) => Ok(Response::Probe(self.probe(users, now))),
            Statement::Alone(change) => {
                self.meanwhile(meanwhile, now);
                Ok(Response::Alone(self.alone(change, now)?))
            }
            Statement::Batch(parts) => {
                let used: Vec<_> = self.used(parts).collect();
                let snapshot: BTreeMap<i64, (i64, i64)> =
                    self.rows.iter().map(|(id, row)| (*id, (row.balance, row.version))).collect();
                self.meanwhile(meanwhile, now);
                self.batch(parts, used, &snapshot, now).map(Response::Batch)
            }
            Statement::Locked { user, changes } => {
                self.meanwhile(meanwhile, now);
                self.locked(*user, changes, now).map(Response::Locked)
            }
        }
    }

    fn meanwhile(&mut self, ask: Option<&Ask>, now: Time) {
        if let Some(ask) = ask {
            self.other(ask, now);
        }
    }

    fn probe(&self, users: &[UserId], now: Time) -> Vec<Probed> {
        let probed = |user: &UserId| {
            let row = self.rows.get(&user.get())?;
            let is_free = row.held <= now && row.busy.is_none();
            Some(Probed { id: user.get(), version: row.version, is_free })
        };
        users.iter().filter_map(probed).collect()
    }

    fn alone(&mut self, change: &Change, now: Time) -> Result<Updated, &'static str> {
        let Some(row) = self.rows.get_mut(&change.user.get()) else { return Ok(Updated::NoUser) };
        match row.funds().decide(change.amount) {
            Ok(Decision::Accepted(balance)) => {
                row.write(now, change.amount.get(), None);
                Ok(Updated::Decided(Decision::Accepted(balance)))
            }
            Ok(Decision::Refused) => Ok(Updated::Decided(Decision::Refused)),
            Err(_) => Err("22003"),
        }
    }

    /// Replies for the keys of a batch that were used before.
    fn used<'a>(&'a self, parts: &'a [OwnedPart]) -> impl Iterator<Item = Reply> + 'a {
        let asked = parts.iter().filter(|part| {
            let never = matches!(part.plan.guard, Guard::Range { least, most } if least > most);
            !(never && self.reads_without_keys)
        });
        let keys = asked.flat_map(|part| {
            let keys: Vec<Key> = part.part().keys().cloned().collect();
            keys.into_iter().map(|key| (part.user.get(), key.as_str().to_owned()))
        });
        keys.filter_map(|(user, key)| {
            let stored = self.keys.get(&(user, key.clone()))?.stored();
            Some(Reply::Replayed { user, key, stored })
        })
    }

    fn batch(
        &mut self,
        parts: &[OwnedPart],
        used: Vec<Reply>,
        snapshot: &BTreeMap<i64, (i64, i64)>,
        now: Time,
    ) -> Result<Vec<Reply>, &'static str> {
        let mut replies = Vec::new();
        let is_disabled = !used.is_empty();
        let fits = |world: &Self, part: &OwnedPart| {
            let row = world.rows.get(&part.user.get());
            let before = snapshot.get(&part.user.get());
            // The guard on the snapshot, and again on the row under its lock.
            !is_disabled
                && before
                    .is_some_and(|(balance, version)| fits(part.plan.guard, *balance, *version))
                && row.is_some_and(|row| row.fits(part.plan.guard))
        };
        let applied: Vec<&OwnedPart> = parts.iter().filter(|part| fits(self, part)).collect();
        let is_used = |part: &&OwnedPart| {
            let mut keys = part.stored_keys();
            keys.any(|key| self.keys.contains_key(&(part.user.get(), key.as_str().to_owned())))
        };
        if applied.iter().any(is_used) {
            // Another session used a key after the snapshot: a violation of the primary key. It is a
            // `Race` by its constraint, which a code alone does not show, so this is another race.
            return Err("40001");
        }
        for part in &applied {
            let user = part.user.get();
            let before = self.rows[&user].balance;
            self.write(part, now);
            replies.push(Reply::Applied { user, before });
        }
        if applied.len() < parts.len() {
            for part in parts {
                if let Some((balance, version)) = snapshot.get(&part.user.get()) {
                    let funds = Funds { balance: *balance, held: 0 };
                    let (user, version) = (part.user.get(), *version);
                    replies.push(Reply::Unchanged { user, funds, version, has_expired: false });
                }
            }
        }
        replies.extend(used);
        Ok(replies)
    }

    fn store_key(&mut self, user: i64, key: &str, stored: StoredKey) {
        let before = self.keys.insert((user, key.to_owned()), stored);
        assert!(before.is_none(), "a key is used twice");
    }

    fn write(&mut self, part: &OwnedPart, now: Time) {
        let user = part.user.get();
        let before = self.rows[&user].balance;
        for (planned, change) in part.plan.changes.iter().zip(&part.changes) {
            let key = change.key.as_ref().map(|key| key.as_str().to_owned());
            let decision = match planned {
                Planned::Accepted { running } => {
                    let row = self.rows.get_mut(&user).unwrap();
                    row.write(now, change.amount.get(), key.clone());
                    Decision::Accepted(before + running)
                }
                Planned::Read { running } => Decision::Accepted(before + running),
                Planned::Refused => Decision::Refused,
                Planned::Copy { .. } | Planned::KeyReused | Planned::OutOfRange => continue,
            };
            if let Some(key) = key {
                let amount = change.amount.get();
                self.store_key(user, &key, StoredKey { at: now, amount, decision });
            }
        }
        let after = self.rows[&user].balance;
        assert_eq!(after, before + part.plan.net, "the net amount is not that of the rows");
    }

    fn locked(
        &mut self,
        user: UserId,
        changes: &[Change],
        now: Time,
    ) -> Result<LockedReply, &'static str> {
        let Some(row) = self.rows.get(&user.get()) else { return Ok(LockedReply::NoUser) };
        let (before, version) = (row.balance, row.version);
        let plan = each(row.funds(), version, changes.iter());
        let part = OwnedPart { user, plan, changes: changes.to_vec() };
        let used: Vec<_> = self.used(std::slice::from_ref(&part)).collect();
        let snapshot = [(user.get(), (before, version))].into();
        let replies = self.batch(std::slice::from_ref(&part), used, &snapshot, now)?;
        Ok(LockedReply::Decided(Locked { before, plan: part.plan, replies }))
    }
}

impl OwnedPart {
    /// The keys that are written with the part.
    fn stored_keys(&self) -> impl Iterator<Item = &Key> {
        let decided = self.plan.changes.iter().zip(&self.changes).filter(|(planned, _)| {
            matches!(planned, Planned::Accepted { .. } | Planned::Read { .. } | Planned::Refused)
        });
        decided.filter_map(|(_, change)| change.key.as_ref())
    }
}

impl StoredKey {
    fn stored(&self) -> Stored {
        let asked = format!("change {}", self.amount);
        Stored::from_columns(asked, keys::answer(self.decision).map(Vec::from))
    }
}

impl Row {
    /// The simulation has no holds.
    fn funds(&self) -> Funds {
        Funds { balance: self.balance, held: 0 }
    }

    fn fits(&self, guard: Guard) -> bool {
        fits(guard, self.balance, self.version)
    }

    fn write_for_another(&mut self, at: Time, amount: i64, key: Option<String>) {
        self.write(at, amount, key);
        self.journal.last_mut().unwrap().by_another = true;
    }

    fn write(&mut self, at: Time, amount: i64, key: Option<String>) {
        assert_ne!(amount, 0, "a change of zero has no journal row");
        self.balance = self.balance.checked_add(amount).expect("a sum fits");
        self.version += 1;
        let by_another = false;
        self.journal.push(Written { at, amount, balance: self.balance, key, by_another });
    }
}

fn fits(guard: Guard, balance: i64, version: i64) -> bool {
    match guard {
        Guard::Range { least, most } => (least..=most).contains(&balance),
        Guard::Version(planned) => planned == version,
    }
}
