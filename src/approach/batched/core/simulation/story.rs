//! A story: all events and faults of one run, generated from a seed. It can be printed and shortened.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::super::Time;

/// Amounts are multiples of this, plus a number that makes each unique: so a journal row belongs to
/// one request. (Jepsen's tests of TigerBeetle use powers of two for the same purpose.)
const UNIT: i64 = 1_000;

/// Users 1 … 4 exist; 5 does not.
pub(super) const USERS: i64 = 4;

#[derive(Clone, Debug)]
pub(super) struct Story {
    /// The opening balances of users 1, 2, ….
    pub(super) balances: Vec<i64>,
    /// In order of time.
    pub(super) events: Vec<(Time, Event)>,
    /// The fault of the n-th request to the database.
    pub(super) faults: Vec<(usize, Fault)>,
}

/// A requested change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) user: i64,
    pub(super) amount: i64,
    pub(super) key: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A client sends a change to the lane.
    Ask(Ask),
    /// A client sends a change with a key twice in one request, so both share the key's lock.
    Twice(Ask),
    /// Another instance applies a change, where it is affordable and the row is free.
    Other(Ask),
    /// Another session locks a user's row and does nothing.
    Hold { user: i64, time: Time },
    /// Other sessions lock and change a user's row one after the other, without a gap.
    Busy { user: i64, time: Time },
    /// Another session locks the whole table, against probes as well.
    LockTable { time: Time },
}

#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// No session can be opened.
    Unreachable,
    /// The session breaks before the statement is sent.
    NotSent,
    /// The session breaks after the statement is sent, which is never carried out.
    Lost,
    /// The statement is carried out, but its answer is lost.
    LostAnswer,
    /// The session breaks. The statement is carried out later and keeps its rows locked until then.
    LostUntil(Time),
    /// The server answers with this error. If the code proves nothing, the statement may be applied.
    Code { code: &'static str, applied: bool },
    /// Another session commits this between the statement's snapshot and its locks.
    Meanwhile(Ask),
    /// The statement takes this long.
    Slow(Time),
}

/// Codes that prove that nothing was applied: data, races, limits.
const ROLLED_BACK: [&str; 9] =
    ["22003", "23514", "40001", "40P01", "53100", "55P03", "57014", "25006", "42P01"];

/// Codes that prove nothing. Two of them are never seen in practice.
const PROVES_NOTHING: [&str; 6] = ["08006", "57P01", "XX000", "40003", "F0000", "58030"];

fn millis(millis: u64) -> Time {
    Duration::from_millis(millis)
}

impl Story {
    pub(super) fn from_seed(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut author = Author { random: &mut random, asked: Vec::new() };
        let balances = (0..USERS).map(|_| author.balance()).collect();
        let mut events = Vec::new();
        let (mut at, mut left) = (Duration::ZERO, author.random.usize(1..40));
        while left > 0 {
            // Simultaneous events share batches.
            let together = author.random.usize(1..=left.min(8));
            for _ in 0..together {
                events.push((at, author.event()));
            }
            left -= together;
            at += match author.random.u8(0..8) {
                0 => millis(author.random.u64(100..3_000)),
                1 | 2 => millis(author.random.u64(5..100)),
                _ => Duration::from_micros(author.random.u64(0..3_000)),
            };
        }
        // A third of all stories has no faults but held rows, so that waits can be checked.
        let faults = if author.random.u8(0..3) == 0 { 0 } else { author.random.usize(0..8) };
        let faults = (0..faults).map(|_| (author.random.usize(0..20), author.fault())).collect();
        Self { balances, events, faults }
    }

    /// Whether held rows are the only trouble.
    pub(super) fn has_only_held_rows(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether a fault answers a request with this code.
    pub(super) fn answers(&self, with: &str) -> bool {
        self.faults
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::Code { code, .. } if *code == with))
    }

    pub(super) fn holds(&self, user: i64) -> bool {
        self.events.iter().any(|(_, event)| match event {
            Event::Hold { user: held, .. } | Event::Busy { user: held, .. } => *held == user,
            Event::LockTable { .. } => true,
            Event::Ask(_) | Event::Twice(_) | Event::Other(_) => false,
        })
    }

    /// Stories that lack a part of this one, shortest first; then this one with its faults one request
    /// earlier.
    pub(super) fn shorter(&self) -> impl Iterator<Item = Self> + '_ {
        let can_be_earlier = self.faults.iter().all(|(number, _)| *number > 0);
        let earlier = (can_be_earlier && !self.faults.is_empty()).then(|| {
            let mut story = self.clone();
            story.faults.iter_mut().for_each(|(number, _)| *number -= 1);
            story
        });
        let parts = self.events.len() + self.faults.len();
        let sizes = std::iter::successors(Some(parts / 2), |size| Some(size / 2))
            .take_while(|size| *size > 0);
        let shorter = sizes.flat_map(move |size| {
            (0..parts).step_by(size).map(move |from| self.without(from..from + size))
        });
        shorter.chain(earlier)
    }

    fn without(&self, left_out: std::ops::Range<usize>) -> Self {
        let events = self.events.len();
        let mut story = self.clone();
        let mut index = 0..;
        story.events.retain(|_| !left_out.contains(&index.next().unwrap()));
        let mut index = events..;
        story.faults.retain(|_| !left_out.contains(&index.next().unwrap()));
        story
    }
}

struct Author<'a> {
    random: &'a mut Rng,
    /// The changes so far, whose keys may be used again.
    asked: Vec<Ask>,
}

impl Author<'_> {
    fn balance(&mut self) -> i64 {
        match self.random.u8(0..6) {
            0 => i64::MAX - self.random.i64(0..3) * UNIT,
            _ => self.random.i64(0..12) * UNIT,
        }
    }

    fn event(&mut self) -> Event {
        match self.random.u8(0..20) {
            0 => {
                let time = millis(self.random.u64(20..9_000));
                Event::Hold { user: self.user(), time }
            }
            1 if self.random.bool() => {
                Event::Busy { user: self.user(), time: millis(self.random.u64(200..9_000)) }
            }
            1 if self.random.u8(0..4) == 0 => {
                Event::LockTable { time: millis(self.random.u64(50..9_000)) }
            }
            2 | 3 => Event::Other(self.ask()),
            4 => match self.ask() {
                ask if ask.key.is_some() => Event::Twice(ask),
                ask => Event::Ask(ask),
            },
            _ => Event::Ask(self.ask()),
        }
    }

    fn user(&mut self) -> i64 {
        // User 1 is the hot one.
        if self.random.bool() { 1 } else { self.random.i64(1..=USERS) }
    }

    fn ask(&mut self) -> Ask {
        if self.random.u8(0..5) == 0 && !self.asked.is_empty() {
            let again = self.asked[self.random.usize(0..self.asked.len())].clone();
            if again.key.is_some() {
                return again;
            }
        }
        let number = i64::try_from(self.asked.len()).unwrap() + 1;
        let units = self.random.i64(1..8);
        let amount = match self.random.u8(0..12) {
            0 => i64::MAX - number,
            1 => number - i64::MAX,
            2 => 0,
            3..=5 => units * UNIT + number,
            _ => -(units * UNIT + number),
        };
        let user = if self.random.u8(0..30) == 0 { USERS + 1 } else { self.user() };
        let key = match self.random.u8(0..6) {
            0..=2 => Some(format!("k{number}")),
            // The key of another request, which has another amount.
            3 if number > 1 => Some(format!("k{}", self.random.i64(1..number))),
            _ => None,
        };
        let ask = Ask { user, amount, key };
        self.asked.push(ask.clone());
        ask
    }

    fn fault(&mut self) -> Fault {
        match self.random.u8(0..9) {
            0 => Fault::Unreachable,
            1 => Fault::NotSent,
            2 => Fault::Lost,
            3 => Fault::LostAnswer,
            4 => Fault::LostUntil(millis(self.random.u64(1..8_000))),
            5 => {
                let code = ROLLED_BACK[self.random.usize(0..ROLLED_BACK.len())];
                Fault::Code { code, applied: false }
            }
            6 => {
                let code = PROVES_NOTHING[self.random.usize(0..PROVES_NOTHING.len())];
                Fault::Code { code, applied: self.random.bool() }
            }
            7 => Fault::Meanwhile(self.ask()),
            _ => Fault::Slow(millis(self.random.u64(1..500))),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  users 1 … {USERS} begin with {:?}", self.balances)?;
        for (at, event) in &self.events {
            writeln!(f, "  {at:>10.3?}  {event:?}")?;
        }
        for (number, fault) in &self.faults {
            writeln!(f, "  request {number} to the database: {fault:?}")?;
        }
        Ok(())
    }
}
