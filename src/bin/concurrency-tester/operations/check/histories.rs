//! Each history must lead from the balance before the burst to the one after it, step by step, and
//! entries that name each other must be two sides of one thing.

use std::collections::BTreeMap;

use super::super::books::{Books, Entry, History};
use crate::exactness::{Kind, Tally};

pub(super) fn check(books: &Books, tally: &mut Tally) {
    for (user, history) in &books.users {
        check_steps(*user, history, tally);
        check_end(*user, history, tally);
    }
    check_sides(books, tally);
}

fn check_steps(user: i64, history: &History, tally: &mut Tally) {
    let mut last = history.before;
    let mut last_at = "";
    for entry in &history.entries {
        let Entry { version, balance, held, .. } = *entry;
        if balance < 0 || held < 0 {
            tally.add(Kind::NegativeBalance, || {
                format!("user {user}, version {version}: balance {balance}, held {held}")
            });
        }
        let sum = |of: i64, by: i64| i128::from(of) + i128::from(by);
        let adds_up = version == last.version + 1
            && i128::from(balance) == sum(last.balance, entry.amount)
            && i128::from(held) == sum(last.held, entry.held_amount);
        // Times are all written with the same length.
        if !adds_up || *entry.created_at < *last_at {
            tally.add(Kind::BrokenHistory, || {
                format!(
                    "user {user}: version {version} of {}: {} and held {} changed by {} and {} is \
                     {balance} and {held}, after version {} of {last_at}",
                    entry.created_at,
                    last.balance,
                    last.held,
                    entry.amount,
                    entry.held_amount,
                    last.version,
                )
            });
        }
        last.version = version;
        last.balance = balance;
        last.held = held;
        last_at = &entry.created_at;
    }
}

fn check_end(user: i64, History { before, after, entries }: &History, tally: &mut Tally) {
    let (version, balance, held) = match entries.last() {
        Some(last) => (last.version, last.balance, last.held),
        None => (before.version, before.balance, before.held),
    };
    if after.balance < 0 || after.held < 0 {
        tally.add(Kind::NegativeBalance, || {
            format!("user {user} at the end: balance {}, held {}", after.balance, after.held)
        });
    }
    if (after.version, after.balance, after.held) != (version, balance, held) {
        tally.add(Kind::FinalBalance, || {
            format!(
                "user {user}: balance {}, held {}, version {}; the history ends with {balance}, \
                 {held}, {version}",
                after.balance, after.held, after.version
            )
        });
    }
}

fn check_sides(books: &Books, tally: &mut Tally) {
    let mut entries = BTreeMap::new();
    for (user, history) in &books.users {
        entries.extend(history.entries.iter().map(|entry| ((*user, entry.version), entry)));
    }
    for ((user, version), entry) in &entries {
        let Some(peer) = entry.peer else { continue };
        let other = entries.get(&(peer.user, peer.version));
        if !other.is_some_and(|other| are_sides((*user, *version), entry, other)) {
            tally.add(Kind::OneSided, || {
                let found = other.map_or("is not there".to_owned(), |other| describe(other));
                let (other, at) = (peer.user, peer.version);
                let entry = describe(entry);
                format!(
                    "user {user}, version {version} {entry}; user {other}, version {at} {found}"
                )
            });
        }
    }
}

fn are_sides(id: (i64, i64), entry: &Entry, other: &Entry) -> bool {
    let total = |entry: &Entry| i128::from(entry.amount) + i128::from(entry.held_amount);
    other.peer.map(|back| (back.user, back.version)) == Some(id)
        && total(entry) == -total(other)
        && entry.kind == other.kind
        && entry.created_at == other.created_at
}

fn describe(entry: &Entry) -> String {
    let Entry { kind, amount, held_amount, created_at, .. } = entry;
    let peer = entry.peer.map_or("nobody".to_owned(), |peer| {
        format!("user {}, version {}", peer.user, peer.version)
    });
    format!("({kind} of {amount:+}, held {held_amount:+}, at {created_at}, names {peer})")
}
