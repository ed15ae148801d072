//! What a correct ledger does must pass, however its clients overlap. Then one thing is changed at a
//! time: it must be found under its own name.

mod world;

use super::record::{Attempt, Read, Record, Seen, Window};
use super::*;
use crate::contract::answer::{Fact, Said};
use crate::contract::books::{Entry, EntryKind, History, HoldId, HoldState, State};
use crate::contract::operation::{Action, Operation};
use crate::contract::time::Micros;
use world::World;

fn slugs(record: &Record, books: &Books) -> Vec<String> {
    let mut tally = Tally::default();
    judge(record, books, &mut tally);
    tally.into_violations().iter().map(|violation| violation.kind.slug()).collect()
}

#[test]
fn overlapping_clients_of_a_correct_ledger_pass() {
    for seed in 0..40 {
        let World { record, books, .. } = World::run(1_500, seed);
        let mut tally = Tally::default();
        judge(&record, &books, &mut tally);
        let violations = tally.into_violations();
        assert!(violations.is_empty(), "{seed}: {violations:#?}");
    }
}

#[test]
fn a_run_has_every_outcome() {
    let World { record, books, .. } = World::run(5_000, 1);
    let count = |is: fn(&Said) -> bool| record.attempts.iter().filter(|a| is(&a.said)).count();
    assert!(count(|said| matches!(said, Said::Accepted(_))) > 500);
    assert!(count(|said| matches!(said, Said::Refused(None))) > 100);
    assert!(count(|said| matches!(said, Said::Refused(Some(_)))) > 20);
    assert!(count(|said| matches!(said, Said::Resolved(_))) > 100);
    assert!(count(|said| matches!(said, Said::Lost(_))) > 100);
    let kinds = books.users.values().flat_map(|history| &history.entries).map(|entry| entry.kind);
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    assert_eq!(kinds.len(), 6);
}

/// A user who begins with 100, and these changes: amount, called, returned.
fn changes(changes: &[(i64, u64, u64)]) -> (Record, Books) {
    let before = State { balance: 100, held: 0, version: 1 };
    let mut history = History { before, after: before, entries: Vec::new() };
    let mut record = Record::default();
    for (operation, (amount, called, returned)) in changes.iter().enumerate() {
        let state = &mut history.after;
        state.version += 1;
        state.balance += amount;
        history.entries.push(Entry {
            version: state.version,
            kind: EntryKind::Change,
            amount: *amount,
            held_amount: 0,
            balance: state.balance,
            held: 0,
            created_at: Micros(10 * state.version),
            reference: None,
            key: None,
            hold: None,
            peer: None,
        });
        let fact = Fact { balance: Some(state.balance), ..Fact::default() };
        add(&mut record, *amount, (*called, *returned), Said::Accepted(vec![fact]), operation);
    }
    (record, Books { users: [(7, history)].into(), ..Books::default() })
}

fn add(record: &mut Record, amount: i64, (called, returned): (u64, u64), said: Said, n: usize) {
    let action = Action::Change { user: 7, amount };
    record.operations.push(Operation { action, key: None, reference: None });
    let window = Window { called, returned };
    let text = format!("{said:?}").into();
    record.attempts.push(Attempt {
        operation: n,
        target: 0,
        request: n + 1,
        position: 0,
        window,
        said,
        text,
    });
}

fn read(record: &mut Record, version: i64, balance: i64, called: u64, returned: u64) {
    let seen = Seen::State { user: 7, state: State { balance, held: 0, version } };
    record.reads.push(Read { request: 99, window: Window { called, returned }, seen });
}

#[test]
fn an_operation_may_overtake_one_that_overlaps_and_none_that_was_answered_before() {
    let (record, books) = changes(&[(5, 20, 50), (6, 10, 30)]);
    assert!(slugs(&record, &books).is_empty());
    let (record, books) = changes(&[(5, 31, 50), (6, 10, 30)]);
    assert_eq!(slugs(&record, &books), ["real-time-order"]);
    // Versions in between change nothing about it.
    let (record, books) = changes(&[(5, 31, 50), (7, 0, 90), (8, 0, 90), (6, 10, 30)]);
    assert_eq!(slugs(&record, &books), ["real-time-order"]);
}

#[test]
fn a_read_sees_what_was_answered_before_it_and_nothing_that_was_called_after_it() {
    for (version, balance, called, returned, due) in [
        (2, 105, 25, 28, None),
        (1, 100, 15, 40, None),
        (1, 100, 21, 40, Some("stale-read")),
        (3, 111, 25, 35, None),
        (3, 111, 21, 29, Some("read-too-early")),
        (2, 105, 61, 70, Some("stale-read")),
        (2, 104, 25, 28, Some("wrong-read")),
        (4, 111, 65, 70, Some("wrong-read")),
    ] {
        let (mut record, books) = changes(&[(5, 10, 20), (6, 30, 60)]);
        read(&mut record, version, balance, called, returned);
        assert_eq!(slugs(&record, &books), Vec::from_iter(due), "{version} {called}–{returned}");
    }
}

#[test]
fn two_reads_one_after_the_other_do_not_go_back() {
    let (mut record, books) = changes(&[(5, 10, 90)]);
    read(&mut record, 2, 105, 20, 30);
    read(&mut record, 1, 100, 25, 40);
    assert!(slugs(&record, &books).is_empty());
    read(&mut record, 1, 100, 31, 40);
    assert_eq!(slugs(&record, &books), ["stale-read"]);
}

#[test]
fn a_refusal_needs_a_balance_of_its_time() {
    // The balance is 100 at first, 40 between 20 and 30, and 140 afterwards.
    for (amount, called, returned, due) in [
        (-50, 25, 28, None),
        (-50, 18, 22, None),
        (-50, 5, 9, Some("impossible-refusal")),
        (-50, 55, 60, Some("impossible-refusal")),
        (-141, 55, 60, None),
        (-40, 25, 28, Some("impossible-refusal")),
        (-41, 25, 28, None),
    ] {
        let (mut record, books) = changes(&[(-60, 10, 20), (100, 30, 50)]);
        add(&mut record, amount, (called, returned), Said::Refused(None), 2);
        assert_eq!(slugs(&record, &books), Vec::from_iter(due), "{amount} {called}–{returned}");
    }
}

#[test]
fn what_a_later_entry_shows_counts_for_the_entries_before_it() {
    // Two changes were answered late, but the third one, which came after them, was answered early.
    let (mut record, books) = changes(&[(-60, 0, 90), (3, 0, 200), (100, 10, 20)]);
    add(&mut record, -50, (5, 90), Said::Refused(None), 3);
    assert!(slugs(&record, &books).is_empty());
    add(&mut record, -51, (25, 90), Said::Refused(None), 4);
    assert_eq!(slugs(&record, &books), ["impossible-refusal"]);
}

#[test]
fn a_violation_tells_its_story_in_order_of_time() {
    let (mut record, books) = changes(&[(5, 1_000, 2_000)]);
    read(&mut record, 1, 100, 3_000, 4_000);
    let mut tally = Tally::default();
    judge(&record, &books, &mut tally);
    let violations = tally.into_violations();
    let lines: Vec<_> = violations[0].examples[0].lines().collect();
    let due = [
        "0.000001–0.000002 s request 1 to instance 1: change of user 7 by 5: ",
        "0.000003–0.000004 s request 99: user 7 has version 1, balance 100, held 0",
        "the history has user 7, change of +5: version 2, balance 105, held 0, at ",
    ];
    assert_eq!(lines.len(), due.len(), "{lines:#?}");
    for (line, due) in lines.iter().zip(due) {
        assert!(line.starts_with(due), "{line}");
    }
}

/// A user with a hold of 40, and who wants to release it: when called. No release is answered, and the
/// hold is released. Then comes a change, which is answered.
fn releases(called: &[u64], change: (u64, u64)) -> (Record, Books) {
    let (mut record, mut books) = changes(&[(7, change.0, change.1)]);
    let history = books.users.get_mut(&7).unwrap();
    (history.before.balance, history.before.held) = (60, 40);
    let release = Entry {
        version: 2,
        kind: EntryKind::Release,
        amount: 40,
        held_amount: -40,
        balance: 100,
        hold: Some(1),
        ..history.entries[0].clone()
    };
    history.entries.insert(0, release);
    let change = &mut history.entries[1];
    (change.version, change.created_at, history.after.version) = (3, Micros(30), 3);
    let hold = HoldState {
        hold: 1,
        amount: 40,
        captured: 0,
        state: "released".to_owned(),
        created_at: Micros(10),
        expires_at: Micros(1_000),
        resolved_at: Some(Micros(20)),
    };
    let id = HoldId { user: 7, hold: 1 };
    books.holds.insert(id, hold);
    for called in called {
        let operation = record.operations.len();
        let action = Action::Release { id, of: 40 };
        add(&mut record, 0, (*called, called + 5), Said::Lost(Kind::ConnectionLost), operation);
        record.operations[operation].action = action;
    }
    (record, books)
}

#[test]
fn of_equal_operations_whose_answer_was_lost_any_may_have_been_applied() {
    for called in [&[10, 90][..], &[90, 10], &[90, 80, 10, 70]] {
        let (record, books) = releases(called, (30, 40));
        assert_eq!(slugs(&record, &books), Vec::<String>::new(), "{called:?}");
    }
    // But not one that was called after the change which came later was answered.
    let (record, books) = releases(&[90, 80], (30, 40));
    assert_eq!(slugs(&record, &books), ["real-time-order"]);
}

/// Changes one thing about a run of a correct ledger.
type Spoil = fn(&mut Record, &mut Books);

#[test]
fn one_thing_that_is_wrong_in_a_long_run_is_found_by_its_name() {
    let spoils: [(&str, Spoil); 12] = [
        ("wrong-read", |record, _| {
            let then = record.reads.iter_mut().rev().find_map(|read| match &mut read.seen {
                Seen::At { then, .. } => Some(then),
                _ => None,
            });
            then.unwrap().state.balance += 1;
        }),
        ("wrong-read", |record, books| {
            // Nothing is wrong with the state, but it is that of another moment.
            let read = record.reads.iter_mut().rev().find_map(|read| match &mut read.seen {
                Seen::At { user, asked, then } if then.state.version > 0 => {
                    Some((*user, asked, then))
                }
                _ => None,
            });
            let (user, asked, then) = read.unwrap();
            let entries = &books.users[&user].entries;
            let count = entries.partition_point(|entry| entry.created_at <= *asked);
            asked.0 = entries[count - 1].created_at.0 - 1;
            then.at = *asked;
        }),
        ("wrong-read", |record, _| {
            let entries = record.reads.iter_mut().rev().find_map(|read| match &mut read.seen {
                Seen::Page { entries, .. } if entries.len() > 2 => Some(entries),
                _ => None,
            });
            entries.unwrap().remove(1);
        }),
        ("wrong-read", |record, books| {
            let hold = record.reads.iter_mut().rev().find_map(|read| match &mut read.seen {
                Seen::Hold { id, hold } if hold.state == "open" => {
                    (books.holds[id].state != "open").then_some(hold)
                }
                _ => None,
            });
            hold.unwrap().amount += 1;
        }),
        ("resolved-after-expiry", |_, books| {
            let hold = books.holds.values_mut().find(|hold| hold.state == "captured").unwrap();
            hold.expires_at = hold.resolved_at.unwrap();
        }),
        ("expired-early", |_, books| {
            let hold = books.holds.values_mut().find(|hold| hold.state == "expired").unwrap();
            hold.expires_at = Micros(hold.resolved_at.unwrap().0 + 1);
        }),
        ("wrong-hold", |record, _| {
            for operation in &mut record.operations {
                if let Action::Reserve { expires_in_seconds, .. } = &mut operation.action {
                    *expires_in_seconds = Some(1);
                }
            }
        }),
        ("not-at-once", |_, books| {
            let entry = entry(books, |entry| entry.kind == EntryKind::Transfer);
            entry.created_at.0 += 1;
        }),
        ("time-runs-backwards", |_, books| {
            entry(books, |entry| entry.kind == EntryKind::Change).created_at = Micros(0);
        }),
        ("one-sided", |_, books| {
            let is_payee = |entry: &Entry| entry.kind == EntryKind::Transfer && entry.amount > 0;
            entry(books, is_payee).reference = Some("another".to_owned());
        }),
        ("wrong-order", |record, _| {
            let mut bulks = record.operations.iter_mut().filter_map(|o| match &mut o.action {
                Action::All(items) => Some(items),
                _ => None,
            });
            for items in bulks.by_ref().filter(|items| items[0].user == items[1].user) {
                items.swap(0, 1);
            }
        }),
        ("sum-changed", |_, books| {
            books.users.get_mut(&1).unwrap().after.balance += 1;
        }),
    ];
    for (due, spoil) in spoils {
        let World { mut record, mut books, .. } = World::run(4_000, 3);
        spoil(&mut record, &mut books);
        let found = slugs(&record, &books);
        assert!(found.iter().any(|slug| slug == due), "{due}: {found:?}");
    }
}

/// One of the later entries that are like this.
fn entry(books: &mut Books, is: impl Fn(&Entry) -> bool) -> &mut Entry {
    let entries = books.users.values_mut().flat_map(|history| history.entries.iter_mut().rev());
    entries.filter(|entry| is(entry)).nth(5).unwrap()
}
