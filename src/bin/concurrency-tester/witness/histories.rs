//! Each history must lead from the user's state before the run to the one after it, step by step, and
//! entries that name each other must be two sides of one thing.

use super::story::Story;
use crate::contract::books::{Books, Entry, History, Peer, State};
use crate::findings::{Kind, Tally};

pub(super) fn check(books: &Books, tally: &mut Tally) {
    for (user, history) in &books.users {
        check_steps(*user, history, tally);
        check_end(*user, history, tally);
        check_sides(*user, history, books, tally);
    }
}

fn check_steps(user: i64, history: &History, tally: &mut Tally) {
    let mut last = history.before;
    let mut last_entry: Option<&Entry> = None;
    for entry in &history.entries {
        let Entry { version, balance, held, .. } = *entry;
        let story = || {
            let mut story = Story::default();
            match last_entry {
                Some(last) => story.entry(user, last),
                None => story.note(format!("user {user} began with {}", history.before)),
            }
            story.entry(user, entry);
            story.to_string()
        };
        if balance < 0 || held < 0 {
            tally.add(Kind::NegativeBalance, story);
        }
        let sum = |of: i64, by: i64| i128::from(of) + i128::from(by);
        let adds_up = version == last.version + 1
            && i128::from(balance) == sum(last.balance, entry.amount)
            && i128::from(held) == sum(last.held, entry.held_amount);
        if !adds_up {
            tally.add(Kind::BrokenHistory, story);
        }
        if last_entry.is_some_and(|last| entry.created_at < last.created_at) {
            tally.add(Kind::TimeRunsBackwards, story);
        }
        last = State { version, balance, held };
        last_entry = Some(entry);
    }
}

fn check_end(user: i64, History { before, after, entries }: &History, tally: &mut Tally) {
    let end = entries.last().map_or(*before, |last| State {
        version: last.version,
        balance: last.balance,
        held: last.held,
    });
    if after.balance < 0 || after.held < 0 {
        tally.add(Kind::NegativeBalance, || format!("user {user} at the end: {after}"));
    }
    if *after != end {
        tally.add(Kind::FinalBalance, || {
            format!("user {user}: {after}; the history ends with {end}")
        });
    }
}

fn check_sides(user: i64, history: &History, books: &Books, tally: &mut Tally) {
    for entry in &history.entries {
        let Some(peer) = entry.peer else { continue };
        let other = books.users.get(&peer.user).and_then(|history| history.entry(peer.version));
        let back = Peer { user, version: entry.version };
        if !other.is_some_and(|other| are_sides(back, entry, other)) {
            tally.add(Kind::OneSided, || {
                let mut story = Story::default();
                story.entry(user, entry);
                match other {
                    Some(other) => story.entry(peer.user, other),
                    None => story.note(format!(
                        "the history of user {} has no version {}",
                        peer.user, peer.version
                    )),
                }
                story.to_string()
            });
        }
    }
}

fn are_sides(back: Peer, entry: &Entry, other: &Entry) -> bool {
    let total = |entry: &Entry| i128::from(entry.amount) + i128::from(entry.held_amount);
    other.peer == Some(back)
        && total(entry) == -total(other)
        && (entry.kind, entry.created_at) == (other.kind, other.created_at)
        && entry.reference == other.reference
}
