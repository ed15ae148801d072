//! Every read must agree with the history, and bounds the commits of the entries around it.

use super::commit_times::{AllCommitTimes, Source};
use super::holds::Holds;
use super::record::{Read, Record, Seen};
use super::story::Story;
use crate::contract::answer::Said;
use crate::contract::books::{Books, Entry, HoldId, HoldState, State};
use crate::contract::time::Micros;
use crate::findings::{Kind, Tally};
use crate::witness::cases::Case;

/// Checks what each read saw, and adds the bounds.
pub(super) fn add<'a>(
    record: &'a Record,
    books: &Books,
    holds: &Holds<'_>,
    times: &mut AllCommitTimes<'a>,
    tally: &mut Tally,
) {
    for read in &record.reads {
        let agrees = match &read.seen {
            Seen::State { user, state } => {
                current(read, *user, state.version, times);
                is_state(*user, *state, books)
            }
            Seen::Version { user, asked, then } => {
                committed(read, *user, then.state.version, times);
                let stamp = stamp(*user, *asked, books);
                *asked == then.state.version
                    && is_state(*user, then.state, books)
                    && stamp.is_none_or(|stamp| stamp == then.at)
            }
            Seen::At { user, asked, then } => {
                committed(read, *user, then.state.version, times);
                then.at == *asked && at(*user, *asked, books) == Some(then.state)
            }
            Seen::Page { user, before, entries } => {
                let newest = entries.first().map_or(0, |entry| entry.version);
                match before {
                    Some(_) => committed(read, *user, newest, times),
                    None => current(read, *user, newest, times),
                }
                is_page(*user, *before, entries, books)
            }
            Seen::Hold { id, hold } => hold_agrees(read, *id, hold, books, holds, times),
        };
        if !agrees {
            tally.add(Kind::WrongRead, || story(read, books));
        }
    }
}

/// Who is told that a hold is resolved, is told after that was committed.
pub(super) fn add_conflicts<'a>(
    cases: &[Case<'a>],
    holds: &Holds<'_>,
    times: &mut AllCommitTimes<'a>,
) {
    for case in cases {
        let Some(id) = case.operation.resolves() else { continue };
        let Some([resolved]) = holds.get(&id).map(|told| &told.resolved[..]) else { continue };
        let Some(times) = times.get_mut(id.user) else { continue };
        for attempt in &case.attempts {
            if matches!(attempt.said, Said::Resolved(_)) {
                let source = Source::Operation(attempt, case.operation);
                times.committed_by(resolved.version, attempt.window.returned, source);
            }
        }
    }
}

/// The read saw this version, and no later one.
fn current<'a>(read: &'a Read, user: i64, version: i64, times: &mut AllCommitTimes<'a>) {
    committed(read, user, version, times);
    if let Some(times) = times.get_mut(user) {
        times.committed_after(version.saturating_add(1), read.window.called, Source::Read(read));
    }
}

fn committed<'a>(read: &'a Read, user: i64, version: i64, times: &mut AllCommitTimes<'a>) {
    if let Some(times) = times.get_mut(user) {
        times.committed_by(version, read.window.returned, Source::Read(read));
    }
}

/// The state right after a version.
fn after(user: i64, version: i64, books: &Books) -> Option<State> {
    let history = books.users.get(&user)?;
    match history.entry(version) {
        Some(entry) => Some(state_of(entry)),
        None => (version == history.before.version).then_some(history.before),
    }
}

fn state_of(entry: &Entry) -> State {
    State { version: entry.version, balance: entry.balance, held: entry.held }
}

fn is_state(user: i64, state: State, books: &Books) -> bool {
    after(user, state.version, books) == Some(state)
}

/// `None` for the version before the run.
fn stamp(user: i64, version: i64, books: &Books) -> Option<Micros> {
    Some(books.users.get(&user)?.entry(version)?.created_at)
}

/// The final state at a moment: after the last entry that is not stamped later.
fn at(user: i64, moment: Micros, books: &Books) -> Option<State> {
    let history = books.users.get(&user)?;
    let count = history.entries.partition_point(|entry| entry.created_at <= moment);
    Some(count.checked_sub(1).map_or(history.before, |last| state_of(&history.entries[last])))
}

/// The entries of the history, one version after the other.
fn is_page(user: i64, before: Option<i64>, entries: &[Entry], books: &Books) -> bool {
    let Some(history) = books.users.get(&user) else { return false };
    let newest = match (before, entries.first()) {
        (Some(before), _) => before - 1,
        (None, Some(entry)) => entry.version,
        (None, None) => return true,
    };
    let oldest_known = history.before.version;
    entries
        .iter()
        .zip((oldest_known + 1..=newest).rev())
        .all(|(entry, due)| entry.version == due && history.entry(due) == Some(entry))
}

fn hold_agrees<'a>(
    read: &'a Read,
    id: HoldId,
    seen: &HoldState,
    books: &Books,
    holds: &Holds<'_>,
    times: &mut AllCommitTimes<'a>,
) -> bool {
    committed(read, id.user, id.hold, times);
    let (Some(told), Some(last)) = (holds.get(&id), books.holds.get(&id)) else { return false };
    let [resolved] = told.resolved[..] else { return told.resolved.len() > 1 || seen == last };
    if seen.state != "open" {
        committed(read, id.user, resolved.version, times);
        return seen == last;
    }
    if let Some(times) = times.get_mut(id.user) {
        times.committed_after(resolved.version, read.window.called, Source::Read(read));
    }
    let open =
        HoldState { captured: 0, state: "open".to_owned(), resolved_at: None, ..last.clone() };
    *seen == open
}

fn story(read: &Read, books: &Books) -> String {
    let mut story = Story::default();
    story.read(read);
    let (user, version) = match &read.seen {
        Seen::State { user, state } => (*user, Some(state.version)),
        Seen::Version { user, asked, .. } => (*user, Some(*asked)),
        Seen::At { user, asked, .. } => (*user, at(*user, *asked, books).map(|s| s.version)),
        Seen::Page { user, entries, .. } => (*user, entries.first().map(|entry| entry.version)),
        Seen::Hold { id, .. } => (id.user, Some(id.hold)),
    };
    let history = books.users.get(&user);
    let entry = history.zip(version).and_then(|(history, version)| history.entry(version));
    match (entry, history) {
        (Some(entry), _) => story.entry(user, entry),
        (None, Some(history)) => story.note(format!("the history ends with {}", history.after)),
        (None, None) => story.note(format!("user {user} is not of this run")),
    }
    story.to_string()
}
