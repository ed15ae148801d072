//! Draws repeat with their seed, and have everything of the contract.

use std::collections::{BTreeMap, HashSet};

use super::super::holds::KnownHold;
use super::*;
use crate::contract::books::HoldId;
use crate::contract::operation::Action;

const CLIENTS: usize = 4;

fn steps(seed: u64, client: usize, count: usize) -> Vec<Step> {
    let cast = Cast { users: vec![1, 2, 3], merchant: 4 };
    let holds = KnownHolds::default();
    holds.add(KnownHold { id: HoldId { user: 2, hold: 7 }, of: 1 << 32 });
    let mut draws = Draws { seed, client, clients: CLIENTS, next: 0 };
    (0..count).map(|_| draws.step(&cast, &holds).expect("there are amounts")).collect()
}

fn operations(step: Step) -> Vec<Operation> {
    match step.work {
        Work::One(operation, _) => vec![operation],
        Work::Each(operations) | Work::Stream { lines: operations, .. } => operations,
        Work::Read(_) | Work::Again => Vec::new(),
    }
}

#[test]
fn the_same_seed_draws_the_same_and_another_one_something_else() {
    let text = |seed, client| format!("{:?}", steps(seed, client, 500));
    assert_eq!(text(1, 0), text(1, 0));
    assert_ne!(text(1, 0), text(2, 0));
    assert_ne!(text(1, 0), text(1, 1));
}

#[test]
fn no_amount_key_or_reference_comes_twice_in_a_run() {
    let (mut amounts, mut texts) = (HashSet::new(), HashSet::new());
    for client in 0..CLIENTS {
        for operation in steps(5, client, 5_000).into_iter().flat_map(operations) {
            let own = match &operation.action {
                Action::Transfer { amount, .. } | Action::Reserve { amount, .. } => vec![*amount],
                Action::Change { amount, .. } => vec![amount.abs()],
                Action::Capture { amount, .. } => amount.iter().copied().collect(),
                Action::Release { .. } => Vec::new(),
                Action::All(items) => {
                    texts.extend(items.iter().filter_map(|item| item.reference.clone()));
                    items.iter().map(|item| item.amount.abs()).collect()
                }
            };
            for amount in own {
                assert!(amounts.insert(amount), "{operation:?}");
            }
            for text in [operation.key, operation.reference].into_iter().flatten() {
                assert!(texts.insert(text.clone()), "{text}");
            }
        }
    }
    assert!(amounts.len() > 10_000);
}

#[test]
fn everything_is_drawn_with_a_key_and_without() {
    let mut drawn: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for step in steps(9, 0, 4_000) {
        let (name, keyed) = match step.work {
            Work::One(operation, category) => (category.name().to_owned(), operation.key.is_some()),
            Work::Each(operations) => ("each".to_owned(), operations[0].key.is_some()),
            Work::Stream { lines, cut_after } => {
                assert!(cut_after.is_none_or(|cut| cut < lines.len()));
                (format!("stream, cut: {}", cut_after.is_some()), lines[0].key.is_some())
            }
            Work::Read(ask) => match ask.what {
                What::Ago(_) => ("ago".to_owned(), false),
                what => (format!("{what:?}"), false),
            },
            Work::Again => ("again".to_owned(), true),
        };
        drawn.entry(name).or_default()[usize::from(keyed)] += 1;
    }
    assert_eq!(drawn.len(), 6 + 1 + 2 + 7 + 1, "{drawn:?}");
    for name in ["change", "bulk-all", "transfer", "hold", "capture", "release", "each"] {
        assert!(drawn[name].iter().all(|count| *count > 10), "{drawn:?}");
    }
}

#[test]
fn nobody_pays_himself() {
    for operation in steps(11, 0, 5_000).into_iter().flat_map(operations) {
        match operation.action {
            Action::Transfer { from, to, .. } => assert_ne!(from, to),
            Action::Capture { id, to, .. } => assert_ne!(Some(id.user), to),
            _ => {}
        }
    }
}
