//! Draws the requests of a burst at random.

use std::collections::HashSet;
use std::ops::Range;

use fastrand::Rng;

use super::scenario::Scenario;
use super::traffic::{Ask, Traffic};
use crate::contract::books::HoldId;
use crate::contract::operation::{Action, Item, Operation};

/// More than all users of a burst have together.
const TOO_MUCH: i64 = 10_000_000_000;

/// The changes of a bulk.
const ITEMS: usize = 20;

/// The most requests that ask for the same operation.
const COPIES_MAX: usize = 4;

/// Who and what takes part.
pub(crate) struct Cast {
    pub(crate) users: Vec<i64>,
    pub(crate) merchant: i64,
    /// With their amounts.
    pub(crate) holds: Vec<(HoldId, i64)>,
}

impl Scenario {
    /// Draws the requests.
    pub(crate) fn traffic(self, cast: &Cast, requests: usize, rng: &mut Rng) -> Traffic {
        let mut draw = Draw {
            name: self.name(),
            rng,
            amounts: HashSet::new(),
            operations: Vec::new(),
            asks: Vec::new(),
        };
        match self {
            Self::Bulks => draw.bulks(cast, requests.div_ceil(ITEMS)),
            _ => {
                while draw.asks.len() < requests {
                    let action = draw.action(self, cast);
                    draw.ask_for(action, requests);
                }
            }
        }
        draw.rng.shuffle(&mut draw.asks);
        Traffic { name: draw.name, operations: draw.operations, asks: draw.asks }
    }
}

struct Draw<'a> {
    name: &'static str,
    rng: &'a mut Rng,
    /// Those drawn so far, without their sign. Each is drawn once, so that an entry belongs to one
    /// operation.
    amounts: HashSet<i64>,
    operations: Vec<Operation>,
    asks: Vec<Ask>,
}

impl Draw<'_> {
    fn action(&mut self, scenario: Scenario, cast: &Cast) -> Action {
        let from = self.user(cast);
        match scenario {
            Scenario::Transfers => {
                let to = loop {
                    let to = self.user(cast);
                    if to != from {
                        break to;
                    }
                };
                Action::Transfer { from, to, amount: self.amount(2_000_000) }
            }
            Scenario::Merchant => {
                Action::Transfer { from, to: cast.merchant, amount: self.amount(500_000) }
            }
            Scenario::Reservations => {
                let amount = self.amount(500_000);
                Action::Reserve { user: from, amount, expires_in_seconds: None }
            }
            Scenario::Captures => self.resolution(cast),
            Scenario::Bulks => Action::Change { user: from, amount: self.signed_amount() },
        }
    }

    fn user(&mut self, cast: &Cast) -> i64 {
        cast.users[self.rng.usize(..cast.users.len())]
    }

    /// One in 32 is never affordable.
    fn amount(&mut self, most: i64) -> i64 {
        let least = if self.rng.u8(..32) == 0 { TOO_MUCH } else { 1 };
        self.unique(least..least + most)
    }

    /// A little more is withdrawn than deposited, so that some users run out of money.
    fn signed_amount(&mut self) -> i64 {
        if self.rng.u8(..32) < 13 { self.unique(1..500_000) } else { -self.amount(500_000) }
    }

    /// An amount of this range that no other operation has.
    fn unique(&mut self, range: Range<i64>) -> i64 {
        loop {
            let amount = self.rng.i64(range.clone());
            if self.amounts.insert(amount) {
                return amount;
            }
        }
    }

    /// Of every tenth hold the captured money leaves the service, of the others it goes to the
    /// merchant.
    fn resolution(&mut self, cast: &Cast) -> Action {
        let position = self.rng.usize(..cast.holds.len());
        let (id, of) = cast.holds[position];
        if self.rng.u8(..3) == 0 {
            return Action::Release { id, of };
        }
        let amount = self.rng.bool().then(|| self.unique(1..of + 1));
        let to = (position % 10 != 9).then_some(cast.merchant);
        Action::Capture { id, of, amount, to }
    }

    /// Adds an operation and its requests: one, or with a key several.
    fn ask_for(&mut self, action: Action, requests_max: usize) {
        let operation = self.add(action);
        let copies = match self.operations[operation].key {
            Some(_) => self.rng.usize(1..=COPIES_MAX).min(requests_max - self.asks.len()),
            None => 1,
        };
        self.asks.extend(std::iter::repeat_n(Ask::One(operation), copies));
    }

    /// Every third has a key, and three of four have a reference: both, and neither, occur.
    fn add(&mut self, action: Action) -> usize {
        let number = self.operations.len();
        let key = (self.rng.u8(..3) == 0).then(|| format!("{}-{number}", self.name));
        let reference = match action {
            Action::Capture { .. } | Action::Release { .. } | Action::All(_) => None,
            _ => (self.rng.u8(..4) != 0).then(|| format!("{} {number}", self.name)),
        };
        self.operations.push(Operation { action, key, reference });
        number
    }

    fn bulks(&mut self, cast: &Cast, requests: usize) {
        let mut with_key = Vec::new();
        while self.asks.len() < requests {
            if self.rng.u8(..3) == 0 {
                let items = (0..ITEMS).map(|position| self.item(cast, position)).collect();
                self.ask_for(Action::All(items), requests);
            } else {
                let changes = (0..ITEMS).map(|_| self.change(cast, &mut with_key)).collect();
                self.asks.push(Ask::Each(changes));
            }
        }
    }

    /// A change of a bulk. Some are repeated under their key, in the same bulk or in another one.
    fn change(&mut self, cast: &Cast, with_key: &mut Vec<usize>) -> usize {
        if !with_key.is_empty() && self.rng.u8(..8) == 0 {
            return with_key[self.rng.usize(..with_key.len())];
        }
        let action = self.action(Scenario::Bulks, cast);
        let operation = self.add(action);
        if self.operations[operation].key.is_some() {
            with_key.push(operation);
        }
        operation
    }

    /// A change of a bulk of which all are applied or none: seldom more than a user has.
    fn item(&mut self, cast: &Cast, position: usize) -> Item {
        let user = self.user(cast);
        let amount = self.unique(1..200_000);
        let amount = if self.rng.bool() { amount } else { -amount };
        let number = self.operations.len();
        let reference = self.rng.bool().then(|| format!("{} {number}.{position}", self.name));
        Item { user, amount, reference }
    }
}
