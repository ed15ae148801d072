//! The changes that a bulk makes to one user come in the order of the bulk.

use std::collections::BTreeMap;

use super::super::operation::{Action, Item, Operation};
use super::super::traffic::{Ask, Traffic};
use super::Effects;
use crate::exactness::{Kind, Tally};

pub(super) fn check(traffic: &Traffic, effects: &Effects<'_>, tally: &mut Tally) {
    for (number, ask) in traffic.asks.iter().enumerate() {
        let mut last: BTreeMap<i64, i64> = BTreeMap::new();
        for (user, version) in versions(traffic, effects, ask) {
            let last = last.entry(user).or_default();
            if version <= *last {
                tally.add(Kind::WrongOrder, || {
                    let request = number + 1;
                    format!("request {request}, user {user}: version {version} after {last}")
                });
            }
            *last = version;
        }
    }
}

/// The users and versions of the entries, in order of the request. Changes without a reference are
/// left out, because another change may look the same, and so are those of `each` with a key, because
/// another request may have made them.
fn versions(traffic: &Traffic, effects: &Effects<'_>, ask: &Ask) -> Vec<(i64, i64)> {
    let mut versions = Vec::new();
    for n in ask.operations() {
        let entries = &effects.entries[*n];
        match &traffic.operations[*n] {
            Operation { action: Action::All(items), .. } => {
                for (Item { user, reference, .. }, entry) in items.iter().zip(entries) {
                    let known = entry.filter(|_| reference.is_some());
                    versions.extend(known.map(|entry| (*user, entry.version)));
                }
            }
            Operation { action: Action::Change { user, .. }, key: None, reference: Some(_) } => {
                versions.extend(entries[0].map(|entry| (*user, entry.version)));
            }
            _ => {}
        }
    }
    versions
}
