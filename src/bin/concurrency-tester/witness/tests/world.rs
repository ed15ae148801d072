//! A correct ledger that runs one step after the other, and the record that overlapping clients of it
//! would have: each step is somewhere between a call and an answer.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::super::record::{Attempt, Read, Record, Seen, Then, Window};
use crate::contract::answer::{Fact, Said};
use crate::contract::books::{Books, Entry, EntryKind, History, HoldId, HoldState, Peer, State};
use crate::contract::operation::{Action, Hold, Item, Operation, Row};
use crate::contract::time::Micros;
use crate::findings::Kind;

const USERS: i64 = 4;

/// A hold that nobody resolves expires this late.
const EXPIRY_MICROS: i64 = 5_000;

#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) record: Record,
    pub(super) books: Books,
    /// Nanoseconds.
    now: u64,
    rng: Rng,
    next_amount: i64,
}

impl World {
    /// The record of that many requests.
    pub(super) fn run(requests: usize, seed: u64) -> Self {
        let mut world =
            Self { rng: Rng::with_seed(seed), next_amount: 1_000_000, ..Self::default() };
        let nothing = State { balance: 0, held: 0, version: 0 };
        for user in 1..=USERS {
            let history = History { before: nothing, after: nothing, entries: Vec::new() };
            world.books.users.insert(user, history);
        }
        while world.record.attempts.len() + world.record.reads.len() < requests {
            world.now += world.rng.u64(1..2_000);
            world.expire();
            match world.rng.u8(..3) {
                0 => world.read(),
                _ => world.operate(),
            }
        }
        world
    }

    fn user(&mut self) -> i64 {
        self.rng.i64(1..=USERS)
    }

    fn amount(&mut self) -> i64 {
        self.next_amount += 1;
        self.next_amount
    }

    fn stamp(&self) -> Micros {
        Micros(i64::try_from(self.now / 1_000).unwrap())
    }

    fn state(&self, user: i64) -> State {
        self.books.users[&user].after
    }

    /// A window around this moment, as long as many steps.
    fn window(&mut self) -> Window {
        let called = self.now.saturating_sub(self.rng.u64(..30_000));
        Window { called, returned: self.now + self.rng.u64(1..30_000) }
    }

    fn operate(&mut self) {
        let action = self.action();
        let number = self.record.operations.len();
        let key = self.rng.bool().then(|| format!("k{number}"));
        let reference = match action {
            Action::Capture { .. } | Action::Release { .. } | Action::All(_) => None,
            _ => self.rng.bool().then(|| format!("r{number}")),
        };
        let operation = Operation { action, key, reference };
        let said = match self.rng.u8(..10) {
            0 => Said::NotApplied,
            _ => self.decide(&operation),
        };
        let has_key = operation.key.is_some();
        self.record.operations.push(operation);
        if self.rng.u8(..8) != 0 {
            return self.answer(number, said);
        }
        // The answer is lost. With a key the client asks again, and is told what was decided.
        self.answer(number, Said::Lost(Kind::ConnectionLost));
        if has_key && said != Said::NotApplied {
            self.now += 40_000;
            self.answer(number, said);
        }
    }

    fn answer(&mut self, operation: usize, said: Said) {
        let (request, window) = (self.record.attempts.len() + 1, self.window());
        let text = format!("{said:?}").into();
        let attempt = Attempt { operation, target: 0, request, position: 0, window, said, text };
        self.record.attempts.push(attempt);
    }

    fn action(&mut self) -> Action {
        let (user, amount) = (self.user(), self.amount());
        match self.rng.u8(..8) {
            0 | 1 => Action::Change { user, amount },
            2 => Action::Change { user, amount: -amount },
            3 => Action::Transfer { from: user, to: user % USERS + 1, amount },
            4 => Action::Reserve { user, amount, expires_in_seconds: None },
            5 => Action::All(
                (0..3)
                    .map(|place| {
                        let amount = if place == 0 { amount } else { -self.amount() };
                        Item { user: self.user(), amount, reference: None }
                    })
                    .collect(),
            ),
            _ => self.resolution().unwrap_or(Action::Change { user, amount }),
        }
    }

    /// Of a hold that may be resolved.
    fn resolution(&mut self) -> Option<Action> {
        let recent: Vec<_> = self.books.holds.iter().rev().take(20).collect();
        let (id, hold) = self.rng.choice(recent)?;
        let (id, of) = (*id, hold.amount);
        Some(match self.rng.u8(..3) {
            0 => Action::Release { id, of },
            1 => Action::Capture { id, of, amount: None, to: None },
            _ => {
                Action::Capture { id, of, amount: Some(1 + of / 3), to: Some(id.user % USERS + 1) }
            }
        })
    }

    fn decide(&mut self, operation: &Operation) -> Said {
        if let Some(id) = operation.resolves() {
            let hold = &self.books.holds[&id];
            match &*hold.state {
                "open" => {}
                "captured" => return Said::Resolved("captured"),
                "released" => return Said::Resolved("released"),
                _ => return Said::Resolved("expired"),
            }
        }
        let rows = operation.rows();
        let mut balances: BTreeMap<i64, i64> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            let user = row.effect.user;
            let balance = balances.entry(user).or_insert(self.books.users[&user].after.balance);
            *balance += row.effect.amount;
            if *balance < 0 {
                let is_bulk = matches!(operation.action, Action::All(_));
                return Said::Refused(is_bulk.then_some(place));
            }
        }
        let versions = self.write(&rows);
        if let Action::Reserve { user, amount, .. } = operation.action {
            self.hold(user, versions[0], amount);
        }
        self.resolve(&operation.action);
        let facts = rows.iter().zip(versions).map(|(row, version)| {
            let entry = self.books.users[&row.effect.user].entry(version).unwrap();
            Fact { balance: Some(entry.balance), ..Fact::default() }
        });
        Said::Accepted(facts.collect())
    }

    fn write(&mut self, rows: &[Row<'_>]) -> Vec<i64> {
        let stamp = self.stamp();
        let mut versions = Vec::new();
        for row in rows {
            let history = self.books.users.get_mut(&row.effect.user).unwrap();
            let state = &mut history.after;
            state.version += 1;
            state.balance += row.effect.amount;
            state.held += row.effect.held_amount;
            versions.push(state.version);
            history.entries.push(Entry {
                version: state.version,
                kind: row.effect.kind,
                amount: row.effect.amount,
                held_amount: row.effect.held_amount,
                balance: state.balance,
                held: state.held,
                created_at: stamp,
                reference: row.reference.map(str::to_owned),
                key: row.key.map(str::to_owned),
                hold: row.effect.hold.map(|hold| match hold {
                    Hold::New => state.version,
                    Hold::Number(number) => number,
                }),
                peer: None,
            });
        }
        if let [one, other] = rows
            && one.effect.peer.is_some()
        {
            for (row, peer, version) in [(one, other, versions[1]), (other, one, versions[0])] {
                let history = self.books.users.get_mut(&row.effect.user).unwrap();
                let entry = history.entries.last_mut().unwrap();
                entry.peer = Some(Peer { user: peer.effect.user, version });
            }
        }
        versions
    }

    fn hold(&mut self, user: i64, hold: i64, amount: i64) {
        let created_at = self.stamp();
        let expires_at = Micros(created_at.0 + EXPIRY_MICROS);
        let state = "open".to_owned();
        let (captured, resolved_at) = (0, None);
        let made = HoldState { hold, amount, captured, state, created_at, expires_at, resolved_at };
        self.books.holds.insert(HoldId { user, hold }, made);
    }

    fn resolve(&mut self, action: &Action) {
        let (id, state, captured) = match action {
            Action::Capture { id, of, amount, .. } => (id, "captured", amount.unwrap_or(*of)),
            Action::Release { id, .. } => (id, "released", 0),
            _ => return,
        };
        let now = self.stamp();
        let hold = self.books.holds.get_mut(id).unwrap();
        (hold.state, hold.captured, hold.resolved_at) = (state.to_owned(), captured, Some(now));
    }

    fn expire(&mut self) {
        let now = self.stamp();
        let expired =
            |(_, hold): &(&HoldId, &HoldState)| hold.state == "open" && hold.expires_at <= now;
        let expired: Vec<_> =
            self.books.holds.iter().filter(expired).map(|(id, hold)| (*id, hold.amount)).collect();
        for (id, of) in expired {
            let release =
                Operation { action: Action::Release { id, of }, key: None, reference: None };
            let mut row = release.rows()[0];
            row.effect.kind = EntryKind::Expiry;
            self.write(&[row]);
            let hold = self.books.holds.get_mut(&id).unwrap();
            (hold.state, hold.resolved_at) = ("expired".to_owned(), Some(now));
        }
    }

    fn read(&mut self) {
        let user = self.user();
        let state = self.state(user);
        let entries = &self.books.users[&user].entries;
        let seen = match self.rng.u8(..5) {
            0 => Seen::Page {
                user,
                before: None,
                entries: entries.iter().rev().take(3).cloned().collect(),
            },
            1 if !entries.is_empty() => {
                let entry = &entries[self.rng.usize(..entries.len())];
                let state =
                    State { version: entry.version, balance: entry.balance, held: entry.held };
                let then = Then { state, at: entry.created_at };
                Seen::Version { user, asked: entry.version, then }
            }
            2 => {
                // Nothing more is stamped with the moment before.
                let asked = Micros(self.stamp().0 - 1);
                let count = entries.partition_point(|entry| entry.created_at <= asked);
                let state = count.checked_sub(1).map_or(
                    State { balance: 0, held: 0, version: 0 },
                    |last| State {
                        version: entries[last].version,
                        balance: entries[last].balance,
                        held: entries[last].held,
                    },
                );
                Seen::At { user, asked, then: Then { state, at: asked } }
            }
            3 if !self.books.holds.is_empty() => {
                let all: Vec<_> = self.books.holds.iter().collect();
                let (id, hold) = self.rng.choice(all).unwrap();
                Seen::Hold { id: *id, hold: hold.clone() }
            }
            _ => Seen::State { user, state },
        };
        let (request, window) = (self.record.reads.len() + 1, self.window());
        self.record.reads.push(Read { request, window, seen });
    }
}
