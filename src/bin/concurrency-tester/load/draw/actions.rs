//! What is asked for, and by whom.
//!
//! More is taken than given, so that the balances stay near zero: a good share of what is asked for is
//! refused.

use super::{Category, Draw, Work};
use crate::contract::operation::{Action, Item, Operation};

/// Of a hundred changes, so many are withdrawals.
const WITHDRAWALS: u8 = 64;

/// The most changes of a bulk that is applied as a whole.
const ALL_MAX: usize = 4;

impl Draw<'_> {
    pub(super) fn change(&mut self) -> Operation {
        let user = self.anybody();
        let amount = self.signed_amount(WITHDRAWALS);
        self.operation(Action::Change { user, amount })
    }

    /// Mostly deposits: a bulk is refused for each single withdrawal that cannot be paid.
    pub(super) fn all(&mut self) -> Operation {
        let count = self.rng.usize(1..=ALL_MAX);
        let items = (0..count).map(|_| self.item()).collect();
        self.operation(Action::All(items))
    }

    fn item(&mut self) -> Item {
        let (user, amount) = (self.anybody(), self.signed_amount(40));
        Item { user, amount, reference: self.reference() }
    }

    /// Half of them go to the merchant, and a few come from him.
    pub(super) fn transfer(&mut self) -> Operation {
        let from = self.anybody();
        let wanted = if self.rng.bool() { self.cast.merchant } else { self.anybody() };
        let to = self.other_than(from, wanted);
        let amount = self.amounts.whole();
        self.operation(Action::Transfer { from, to, amount })
    }

    /// Every second one expires soon, so that its expiry races with its capture.
    pub(super) fn hold(&mut self) -> Operation {
        let user = self.anybody();
        let amount = self.amounts.whole();
        let expires_in_seconds = self.rng.bool().then(|| self.rng.i64(1..=2));
        self.operation(Action::Reserve { user, amount, expires_in_seconds })
    }

    /// While no hold is known, one is made.
    pub(super) fn resolution(&mut self, category: Category) -> Work {
        let Some(hold) = self.holds.any(self.rng.usize(..)) else {
            return Work::One(self.hold(), Category::Hold);
        };
        let (id, of) = (hold.id, hold.of);
        if category == Category::Release {
            return Work::One(self.operation(Action::Release { id, of }), category);
        }
        let amount = self.rng.bool().then(|| self.amounts.part());
        let to = match self.rng.u8(..4) {
            0 => None,
            1 => Some(self.cast.merchant),
            _ => Some(self.anybody()),
        };
        let to = to.map(|to| self.other_than(id.user, to));
        Work::One(self.operation(Action::Capture { id, of, amount, to }), category)
    }

    /// Three of ten times the hot one, and one of twenty times the merchant.
    pub(super) fn anybody(&mut self) -> i64 {
        match self.rng.u8(..20) {
            0..6 => self.cast.users[0],
            6 => self.cast.merchant,
            _ => self.cast.users[self.rng.usize(..self.cast.users.len())],
        }
    }

    fn other_than(&self, user: i64, wanted: i64) -> i64 {
        let others = [wanted, self.cast.merchant, self.cast.users[0]];
        others.into_iter().find(|other| *other != user).unwrap_or(wanted)
    }

    fn signed_amount(&mut self, withdrawals: u8) -> i64 {
        let amount = self.amounts.whole();
        if self.rng.u8(..100) < withdrawals { -amount } else { amount }
    }

    fn operation(&mut self, action: Action) -> Operation {
        self.items += 1;
        let key = (self.rng.u8(..10) < 6).then(|| format!("k{}.{}", self.name, self.items));
        let reference = match action {
            Action::Capture { .. } | Action::Release { .. } | Action::All(_) => None,
            _ => self.reference(),
        };
        Operation { action, key, reference }
    }

    fn reference(&mut self) -> Option<String> {
        self.items += 1;
        self.rng.bool().then(|| format!("r{}.{}", self.name, self.items))
    }
}
