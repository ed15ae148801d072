//! The users of a transaction with their holds, as they are under their locks and as they become.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::Answer;

#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub(super) balance: i64,
    pub(super) held: i64,
    pub(super) version: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) amount: i64,
    pub(super) captured: i64,
    pub(super) state: String,
    pub(super) expires_at: i64,
}

/// An entry of the journal.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) user: i64,
    pub(super) version: i64,
    pub(super) kind: &'static str,
    pub(super) amount: i64,
    pub(super) held_amount: i64,
    pub(super) balance: i64,
    pub(super) held: i64,
    pub(super) key: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) hold: Option<i64>,
    pub(super) peer: Option<(i64, i64)>,
}

/// All times are in microseconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Books {
    /// When everything that the transaction writes has happened.
    pub(super) stamp: i64,
    pub(super) users: BTreeMap<i64, User>,
    /// Those that are named, and the expired ones. By user and number.
    pub(super) holds: BTreeMap<(i64, i64), Hold>,
    /// The new entries, in order.
    pub(super) entries: Vec<Entry>,
    /// The holds that are made or resolved.
    pub(super) changed_holds: BTreeSet<(i64, i64)>,
}

impl Books {
    /// The answer 404 if there is no such user.
    pub(super) fn user(&self, user: i64, part: &str) -> Result<User, Answer> {
        let found = self.users.get(&user).copied();
        found.ok_or_else(|| Answer::error(404, &format!("{part}User not found")))
    }

    /// Enters a change of the balance and of what is held. The caller has checked both.
    pub(super) fn enter(
        &mut self,
        user: i64,
        kind: &'static str,
        amount: i64,
        held_amount: i64,
    ) -> &mut Entry {
        let row = self.users.get_mut(&user).expect("the caller knows the user");
        row.balance += amount;
        row.held += held_amount;
        row.version += 1;
        let User { balance, held, version } = *row;
        let (key, reference, hold, peer) = (None, None, None, None);
        self.entries.push(Entry {
            user,
            version,
            kind,
            amount,
            held_amount,
            balance,
            held,
            key,
            reference,
            hold,
            peer,
        });
        self.entries.last_mut().expect("was just added")
    }

    pub(super) fn has_expired_holds(&self, user: i64) -> bool {
        self.expired_holds(user).next().is_some()
    }

    /// Gives back the money of the expired holds.
    pub(super) fn expire(&mut self, user: i64) {
        let expired: Vec<_> = self.expired_holds(user).collect();
        for (hold, amount) in expired {
            self.enter(user, "expiry", amount, -amount).hold = Some(hold);
            self.resolve(user, hold, "expired", 0);
        }
    }

    fn expired_holds(&self, user: i64) -> impl Iterator<Item = (i64, i64)> {
        let of_user = self.holds.range((user, i64::MIN)..=(user, i64::MAX));
        let expired =
            of_user.filter(|(_, hold)| hold.state == "open" && hold.expires_at <= self.stamp);
        expired.map(|((_, number), hold)| (*number, hold.amount))
    }

    pub(super) fn resolve(&mut self, user: i64, number: i64, state: &str, captured: i64) {
        let hold = self.holds.get_mut(&(user, number)).expect("the caller knows the hold");
        state.clone_into(&mut hold.state);
        hold.captured = captured;
        self.changed_holds.insert((user, number));
    }
}
