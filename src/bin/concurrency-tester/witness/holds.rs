//! Every hold is resolved once, in time, and everybody who wants it is told how.

use std::collections::BTreeMap;

use super::cases::Case;
use super::effects::Effects;
use super::story::Story;
use crate::contract::answer::Said;
use crate::contract::books::{Books, Entry, EntryKind, HoldId, HoldState};
use crate::contract::operation::Action;
use crate::findings::{Kind, Tally};

/// What the histories say about each hold.
pub(super) type Holds<'a> = BTreeMap<HoldId, Told<'a>>;

/// The entries about one hold in its owner's history.
#[derive(Default)]
pub(super) struct Told<'a> {
    pub(super) made: Option<&'a Entry>,
    pub(super) resolved: Vec<&'a Entry>,
}

impl Told<'_> {
    /// The state that its entries lead to.
    pub(super) fn state(&self) -> &'static str {
        match self.resolved.first().map(|entry| entry.kind) {
            None => "open",
            Some(EntryKind::Capture) => "captured",
            Some(EntryKind::Release) => "released",
            Some(_) => "expired",
        }
    }
}

/// Reads the holds out of the histories, and checks each.
pub(super) fn check<'a>(
    cases: &[Case<'_>],
    effects: &Effects<'_>,
    books: &'a Books,
    tally: &mut Tally,
) -> Holds<'a> {
    let holds = told(books);
    for (id, told) in &holds {
        let is_older = books.users.get(&id.user).is_some_and(|h| id.hold <= h.before.version);
        check_hold(*id, told, is_older, books.holds.get(id), tally);
    }
    for (id, hold) in books.holds.iter().filter(|(id, _)| !holds.contains_key(*id)) {
        let is_older = books.users.get(&id.user).is_some_and(|h| id.hold <= h.before.version);
        if is_older && (hold.state == "open" || hold.resolved_at.is_some()) {
            continue;
        }
        tally.add(Kind::WrongHold, || {
            format!("hold {} of user {} is in no history", id.hold, id.user)
        });
    }
    for (number, case) in cases.iter().enumerate() {
        check_expiry(case, effects.of(number), books, tally);
        check_conflicts(case, &holds, tally);
    }
    holds
}

fn told(books: &Books) -> Holds<'_> {
    let mut holds = Holds::new();
    for (user, history) in &books.users {
        for entry in &history.entries {
            let Some(hold) = entry.hold else { continue };
            let told = holds.entry(HoldId { user: *user, hold }).or_default();
            match entry.kind {
                EntryKind::Hold => told.made = Some(entry),
                _ => told.resolved.push(entry),
            }
        }
    }
    holds
}

/// Of a hold that is older than the run, the entry that made it is not known.
fn check_hold(
    id: HoldId,
    told: &Told<'_>,
    is_older: bool,
    found: Option<&HoldState>,
    tally: &mut Tally,
) {
    let story = || {
        let mut story = Story::default();
        for entry in told.made.iter().chain(&told.resolved) {
            story.entry(id.user, entry);
        }
        if let Some(found) = found {
            let HoldState { state, captured, expires_at, .. } = found;
            story
                .note(format!("the hold is {state}, captured {captured}, expires at {expires_at}"));
        }
        story.to_string()
    };
    if told.resolved.len() > 1 {
        return tally.add_many(Kind::ResolvedTwice, told.resolved.len() - 1, story);
    }
    let Some(found) = found else { return tally.add(Kind::WrongHold, story) };
    if due(id, told, is_older, found).as_ref() != Some(found) {
        return tally.add(Kind::WrongHold, story);
    }
    let Some(resolved) = told.resolved.first() else { return };
    let in_time = resolved.created_at < found.expires_at;
    match resolved.kind {
        EntryKind::Expiry if in_time => tally.add(Kind::ExpiredEarly, story),
        EntryKind::Expiry => {}
        _ if in_time => {}
        _ => tally.add(Kind::ResolvedAfterExpiry, story),
    }
}

/// What the hold must be after these entries. `None`: nothing fits, since an entry is missing or has
/// other amounts.
fn due(id: HoldId, told: &Told<'_>, is_older: bool, found: &HoldState) -> Option<HoldState> {
    let (amount, created_at) = match told.made {
        Some(made) => (made.held_amount, made.created_at),
        None if is_older => (found.amount, found.created_at),
        None => return None,
    };
    let resolved = told.resolved.first();
    if resolved.is_some_and(|resolved| resolved.held_amount != -amount) {
        return None;
    }
    Some(HoldState {
        hold: id.hold,
        amount,
        captured: resolved.map_or(0, |resolved| amount.saturating_sub(resolved.amount)),
        state: told.state().to_owned(),
        created_at,
        expires_at: found.expires_at,
        resolved_at: resolved.map(|resolved| resolved.created_at),
    })
}

/// A hold expires when its maker said.
fn check_expiry(case: &Case<'_>, entries: &[Option<&Entry>], books: &Books, tally: &mut Tally) {
    let Action::Reserve { user, expires_in_seconds: Some(seconds), .. } = case.operation.action
    else {
        return;
    };
    let Some(entry) = entries[0] else { return };
    let Some(hold) = books.holds.get(&HoldId { user, hold: entry.version }) else { return };
    if hold.expires_at.0 - hold.created_at.0 != seconds * 1_000_000 {
        tally.add(Kind::WrongHold, || {
            let mut story = Story::default();
            story.entry(user, entry);
            let at = hold.expires_at;
            story.note(format!("it was asked for {seconds} s, and expires at {at}"));
            story.to_string()
        });
    }
}

fn check_conflicts(case: &Case<'_>, holds: &Holds<'_>, tally: &mut Tally) {
    let Some(id) = case.operation.resolves() else { return };
    for attempt in &case.attempts {
        let Said::Resolved(state) = attempt.said else { continue };
        let told = holds.get(&id);
        let kind = match told.map_or("open", Told::state) {
            due if due == state => continue,
            "open" => Kind::NobodyResolved,
            _ => Kind::WrongResolution,
        };
        tally.add(kind, || {
            let mut story = Story::of(attempt, case.operation);
            for entry in told.into_iter().flat_map(|told| told.made.iter().chain(&told.resolved)) {
                story.entry(id.user, entry);
            }
            story.to_string()
        });
    }
}
