//! Lets a ledger in memory answer drawn requests, in the order in which they stand, which is as good
//! as any. What a correct one says must pass. Then faults are put into the ledger, the answers or the
//! histories: each must be found under its own name.

#[path = "../../../../tests/it/tester/ledger.rs"]
mod ledger;
mod played;

use proptest::prelude::*;

use super::scenario::{SCENARIOS, Scenario};
use crate::contract::books::Entry;
use crate::contract::operation::Row;
use crate::contract::time::Micros;
use crate::reply::Reply;
use ledger::Fault;
use played::{Loss, Played, answer, operations};

#[test]
fn a_correct_service_passes_every_scenario_with_acceptances_and_refusals() {
    for scenario in SCENARIOS {
        for seed in 0..4 {
            let played = Played::of(scenario, None, 600, seed);
            let findings = played.findings();
            assert!(findings.exact(), "{scenario:?}: {:?}", findings.violations);
            assert!(findings.accepted > 0 && findings.refused > 0, "{scenario:?}: {findings:?}");
        }
    }
}

#[test]
fn every_fault_of_a_service_is_found_by_its_name() {
    use Fault::*;
    use Scenario::*;
    for (scenario, fault, names) in [
        (Transfers, ApplyTwice, &["applied-twice"][..]),
        (Merchant, ApplyTwice, &["applied-twice"]),
        (Transfers, LosePayee, &["sum-changed", "applied-in-part", "one-sided"]),
        (Captures, LosePayee, &["sum-changed", "applied-in-part", "one-sided"]),
        (Transfers, LoseEntries, &["broken-history"]),
        (Reservations, Overdraw, &["negative-balance"]),
        (Transfers, Overdraw, &["negative-balance"]),
        (Bulks, Overdraw, &["negative-balance"]),
        (Transfers, AnswerOtherBalance, &["wrong-entry"]),
        (Reservations, RefuseAffordable, &["impossible-refusal"]),
        (Transfers, ApplyRefused, &["applied-though-refused"]),
        (Transfers, ForgetKeys, &["applied-twice", "different-answers"]),
        (Bulks, ForgetKeys, &["applied-twice", "different-answers"]),
        (Captures, ResolveTwice, &["resolved-twice"]),
        (Captures, NameOtherState, &["wrong-resolution"]),
        (Bulks, SwapResults, &["wrong-entry"]),
        (Bulks, ReverseBulk, &["wrong-order"]),
        (Bulks, KeepPart, &["applied-though-refused"]),
    ] {
        let requests = if scenario == Bulks { 3_000 } else { 600 };
        let played = Played::of(scenario, Some(fault), requests, 7);
        let slugs = played.slugs();
        for name in names {
            assert!(slugs.iter().any(|slug| slug == name), "{scenario:?} {fault:?}: {slugs:?}");
        }
    }
}

#[test]
fn a_lost_answer_is_the_only_violation_whether_it_was_applied_or_not() {
    for scenario in SCENARIOS {
        for seed in 0..6 {
            let played = Played::losing(scenario, None, 600, seed, |number| match number % 40 {
                11 => Loss::OfTheAnswer,
                29 => Loss::OfTheRequest,
                _ => Loss::None,
            });
            assert_eq!(played.slugs(), ["timed-out", "connection-lost"], "{scenario:?} {seed}");
        }
    }
}

#[test]
fn without_any_answer_every_entry_is_laid_to_an_operation_that_asked_for_it() {
    for scenario in SCENARIOS {
        for seed in 0..6 {
            let played = Played::losing(scenario, None, 400, seed, |_| Loss::OfTheAnswer);
            assert_eq!(played.slugs(), ["timed-out"], "{scenario:?} {seed}");
        }
    }
}

#[test]
fn an_operation_whose_answer_was_lost_must_not_be_half_there() {
    let mut played = Played::of(Scenario::Transfers, None, 300, 1);
    let n = played.accepted(|operation| operation.key.is_none() && operation.reference.is_some());
    let request = played.request_for(n);
    played.replies[request] = Reply::TimedOut;
    assert_eq!(played.slugs(), ["timed-out"]);
    // Its last entry vanishes, as if only one side had been written.
    let operation = &played.traffic.operations[n];
    let (user, reference) = row_of(&operation.rows().pop().unwrap());
    let history = played.books.users.get_mut(&user).unwrap();
    history.entries.retain(|entry| entry.reference != reference);
    let slugs = played.slugs();
    assert_eq!(slugs[0], "applied-in-part", "{slugs:?}");
}

#[test]
fn an_accepted_operation_without_entries_and_entries_without_an_operation_are_found() {
    let played = Played::of(Scenario::Bulks, None, 400, 3);
    let n = played.accepted(|operation| operation.reference.is_some());
    let (user, reference) = row_of(&played.traffic.operations[n].rows()[0]);
    let mut lost = played.clone();
    let history = lost.books.users.get_mut(&user).unwrap();
    history.entries.retain(|entry| entry.reference != reference);
    assert!(lost.slugs().contains(&"missing-entry".to_owned()), "{:?}", lost.slugs());

    let mut foreign = played;
    let history = foreign.books.users.get_mut(&user).unwrap();
    let entry = history.entries.iter_mut().find(|entry| entry.reference == reference).unwrap();
    entry.reference = Some("somebody else's".to_owned());
    assert_eq!(foreign.slugs(), ["wrong-entry"]);
    let history = foreign.books.users.get_mut(&user).unwrap();
    let is_changed = |entry: &&mut Entry| entry.reference.as_deref() == Some("somebody else's");
    history.entries.iter_mut().find(is_changed).unwrap().amount += 1;
    let slugs = foreign.slugs();
    assert_eq!(slugs, ["missing-entry", "foreign-entry", "broken-history"]);
}

#[test]
fn answers_that_say_too_little_are_found() {
    let still = r#"{"error":"A change with the same Idempotency-Key is still running, try again"}"#;
    let still = answer((409, still.to_owned()));
    let played = Played::of(Scenario::Transfers, None, 400, 5);
    // Nobody has the key of a request without one.
    let mut keyless = played.clone();
    let n = played.accepted(|operation| operation.key.is_none());
    keyless.replies[played.request_for(n)] = still.clone();
    assert!(keyless.slugs().contains(&"status-409".to_owned()));
    // Of several with the same key, all but one may be told to wait.
    let several = |n: usize| {
        let asks = played.traffic.asks.iter().enumerate();
        let asks = asks.filter(|(_, ask)| operations(ask) == [n]).map(|(number, _)| number);
        asks.collect::<Vec<_>>()
    };
    let n = (0..played.traffic.operations.len()).find(|n| several(*n).len() > 2).unwrap();
    let mut waiting = played.clone();
    for number in &several(n)[1..] {
        waiting.replies[*number] = still.clone();
    }
    assert_eq!(waiting.slugs(), Vec::<String>::new());
    waiting.replies[several(n)[0]] = still;
    assert!(waiting.slugs().contains(&"status-409".to_owned()));
    // "Not applied" is a violation in itself, and worse if it is not true.
    let n = played.accepted(|operation| operation.key.is_none());
    let mut unavailable = played.clone();
    unavailable.replies[played.request_for(n)] =
        answer((503, r#"{"error":"Not applied, try again"}"#.to_owned()));
    assert_eq!(unavailable.slugs(), ["sum-changed", "applied-though-refused", "status-503"][1..]);
}

#[test]
fn a_hold_that_nobody_resolved_and_one_in_a_wrong_state_are_found() {
    let played = Played::of(Scenario::Captures, None, 300, 2);
    let mut wrong = played.clone();
    let hold = wrong.books.holds.values_mut().next().unwrap();
    hold.captured += 1;
    assert_eq!(wrong.slugs(), ["wrong-hold"]);

    let mut nobody = played;
    for history in nobody.books.users.values_mut() {
        history.entries.clear();
        history.after = history.before;
    }
    for hold in nobody.books.holds.values_mut() {
        (hold.state, hold.captured, hold.resolved_at) = ("open".to_owned(), 0, None);
    }
    for reply in &mut nobody.replies {
        *reply = answer((409, r#"{"error":"The hold is captured"}"#.to_owned()));
    }
    let slugs = nobody.slugs();
    assert!(slugs.contains(&"nobody-resolved".to_owned()), "{slugs:?}");
}

/// The user and the reference of an entry.
fn row_of(row: &Row<'_>) -> (i64, Option<String>) {
    (row.effect.user, row.reference.map(str::to_owned))
}

/// A fault in what was read after the burst.
#[derive(Debug, Clone, Copy)]
enum Misread {
    Balance,
    Held,
    Version,
    Time,
    Peer,
    End,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_wrong_number_in_a_history_is_found(
        seed in 0_u64..1_000,
        user in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        misread in prop::sample::select(vec![
            Misread::Balance, Misread::Held, Misread::Version, Misread::Time, Misread::Peer,
            Misread::End,
        ]),
    ) {
        let mut played = Played::of(Scenario::Transfers, None, 200, seed);
        prop_assert_eq!(played.slugs(), Vec::<String>::new());
        let mut histories: Vec<_> =
            played.books.users.values_mut().filter(|history| !history.entries.is_empty()).collect();
        let user = user.index(histories.len());
        let history = &mut *histories[user];
        let place = place.index(history.entries.len());
        let entry = &mut history.entries[place];
        let name = match misread {
            Misread::Balance => { entry.balance += 1; "broken-history" }
            Misread::Held => { entry.held += 1; "broken-history" }
            Misread::Version => { entry.version += 1; "broken-history" }
            Misread::Time => { entry.created_at = Micros(0); "one-sided" }
            Misread::Peer => { entry.peer.as_mut().unwrap().version += 1; "one-sided" }
            Misread::End => { history.after.balance += 1; "final-balance" }
        };
        let slugs = played.slugs();
        prop_assert!(slugs.iter().any(|slug| slug == name), "{:?}", slugs);
    }
}
