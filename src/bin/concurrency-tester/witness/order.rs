//! What an operation writes to several histories is written at one moment, and the changes that a bulk
//! makes to one user come in the order of the bulk.

use std::collections::HashMap;

use super::cases::Case;
use super::effects::Effects;
use super::record::{Attempt, Record};
use super::story::Story;
use crate::contract::answer::Said;
use crate::contract::books::Entry;
use crate::findings::{Kind, Tally};

pub(super) fn check(record: &Record, cases: &[Case<'_>], effects: &Effects<'_>, tally: &mut Tally) {
    for (number, case) in cases.iter().enumerate() {
        check_one_moment(case, effects.of(number), tally);
        check_in_order(case, effects.of(number), tally);
    }
    check_bulks(record, cases, effects, tally);
}

fn check_one_moment(case: &Case<'_>, entries: &[Option<&Entry>], tally: &mut Tally) {
    let mut stamps = entries.iter().flatten().map(|entry| entry.created_at);
    let first = stamps.next();
    if stamps.any(|stamp| Some(stamp) != first) {
        tally.add(Kind::NotAtOnce, || story(case, entries));
    }
}

/// Of an operation with several entries for one user.
fn check_in_order(case: &Case<'_>, entries: &[Option<&Entry>], tally: &mut Tally) {
    if entries.len() < 2 {
        return;
    }
    let mut last: HashMap<i64, i64> = HashMap::new();
    for (row, entry) in case.operation.rows().iter().zip(entries) {
        let Some(entry) = entry else { continue };
        let last = last.entry(row.effect.user).or_default();
        if entry.version <= *last {
            return tally.add(Kind::WrongOrder, || story(case, entries));
        }
        *last = entry.version;
    }
}

/// Bulks and streams that decide each change for itself. Of a change with a key, another request may have
/// made the entry.
fn check_bulks(record: &Record, cases: &[Case<'_>], effects: &Effects<'_>, tally: &mut Tally) {
    let is_own = |attempt: &&Attempt| {
        matches!(attempt.said, Said::Accepted(_))
            && cases[attempt.operation].attempts.len() == 1
            && effects.of(attempt.operation).len() == 1
    };
    let mut items: Vec<&Attempt> = record.attempts.iter().filter(is_own).collect();
    items.sort_by_key(|attempt| (attempt.request, attempt.position));
    let mut last: HashMap<i64, (&Attempt, &Entry)> = HashMap::new();
    let mut request = 0;
    for attempt in items {
        if attempt.request != request {
            request = attempt.request;
            last.clear();
        }
        let operation = cases[attempt.operation].operation;
        let Some(entry) = effects.of(attempt.operation)[0] else { continue };
        let user = operation.rows()[0].effect.user;
        if let Some((before, entered)) = last.insert(user, (attempt, entry))
            && entered.version >= entry.version
        {
            tally.add(Kind::WrongOrder, || {
                let mut story = Story::of(before, cases[before.operation].operation);
                story.add(attempt, operation);
                story.entry(user, entered);
                story.entry(user, entry);
                story.to_string()
            });
        }
    }
}

fn story(case: &Case<'_>, entries: &[Option<&Entry>]) -> String {
    let mut story = Story::default();
    for attempt in &case.attempts {
        story.add(attempt, case.operation);
    }
    for (row, entry) in case.operation.rows().iter().zip(entries) {
        if let Some(entry) = entry {
            story.entry(row.effect.user, entry);
        }
    }
    story.to_string()
}
