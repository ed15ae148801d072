//! Lays every entry of the histories to the operation that asked for it.
//!
//! First the entries that are just as an accepted operation was told, then all others: to an operation
//! that was told something else, or that was told nothing. What is left over is an entry too many.

use std::collections::{BTreeSet, HashSet};

use super::cases::{Case, Decision};
use super::story::Story;
use crate::contract::answer::Fact;
use crate::contract::books::{Books, Entry, EntryKind};
use crate::contract::operation::{Effect, Row};
use crate::findings::{Kind, Tally};

/// The entries of each operation, in order of its rows.
pub(super) struct Effects<'a> {
    entries: Vec<Option<&'a Entry>>,
    /// Where those of each operation begin, and where the last ones end.
    begins: Vec<usize>,
}

impl<'a> Effects<'a> {
    pub(super) fn find(cases: &[Case<'a>], books: &'a Books, tally: &mut Tally) -> Self {
        let mut search = Search::of(cases, books);
        let mut left = Vec::new();
        for (user, history) in &books.users {
            for entry in &history.entries {
                if !search.lay_as_answered(*user, entry) && entry.kind != EntryKind::Expiry {
                    left.push((*user, entry));
                }
            }
        }
        for (user, entry) in left {
            search.lay(user, entry, tally);
        }
        search.check_completeness(tally);
        search.found
    }

    /// The entries of an operation, in order of its rows.
    pub(super) fn of(&self, operation: usize) -> &[Option<&'a Entry>] {
        &self.entries[self.begins[operation]..self.begins[operation + 1]]
    }

    /// Whether the operation was applied: the answer says so, or its entries are there.
    pub(super) fn applied(&self, operation: usize, case: &Case<'_>) -> bool {
        match case.decision {
            Decision::Accepted(_) => true,
            Decision::Open => self.of(operation).iter().all(Option::is_some),
            Decision::Refused(_) | Decision::NotApplied => false,
        }
    }
}

/// A row of an operation, and what the answer says about its entry.
struct Place<'a> {
    row: Row<'a>,
    operation: usize,
    /// Among the rows of all operations.
    number: usize,
    /// `None`: no answer says that there is an entry.
    fact: Option<Fact>,
}

struct Search<'a, 's> {
    cases: &'s [Case<'a>],
    books: &'a Books,
    /// Sorted by effect.
    places: Vec<Place<'a>>,
    found: Effects<'a>,
    /// The users and versions of entries that were laid together with their other side.
    laid: HashSet<(i64, i64)>,
    blamed: BTreeSet<(usize, Kind)>,
}

impl<'a, 's> Search<'a, 's> {
    fn of(cases: &'s [Case<'a>], books: &'a Books) -> Self {
        let mut places = Vec::with_capacity(cases.len());
        let mut begins = Vec::with_capacity(cases.len() + 1);
        for (operation, case) in cases.iter().enumerate() {
            begins.push(places.len());
            let facts = match case.decision {
                Decision::Accepted(facts) => facts,
                _ => &[],
            };
            for (row, asked) in case.operation.rows().into_iter().enumerate() {
                let (number, fact) = (places.len(), facts.get(row).copied());
                places.push(Place { row: asked, operation, number, fact });
            }
        }
        begins.push(places.len());
        let entries = vec![None; places.len()];
        places.sort_by_key(|place| place.row.effect);
        let found = Effects { entries, begins };
        let (laid, blamed) = (HashSet::new(), BTreeSet::new());
        Self { cases, books, places, found, laid, blamed }
    }

    fn places(&self, effect: &Effect) -> &[Place<'a>] {
        let begin = self.places.partition_point(|place| place.row.effect < *effect);
        let count = self.places[begin..].partition_point(|place| place.row.effect == *effect);
        &self.places[begin..begin + count]
    }

    fn is_free(&self, place: &Place<'_>) -> bool {
        self.found.entries[place.number].is_none()
    }

    fn lay_as_answered(&mut self, user: i64, entry: &'a Entry) -> bool {
        let row = Row::of(user, entry);
        let fits = |place: &&Place<'_>| {
            place.row == row
                && place.fact.is_some_and(|fact| fact.fits(entry))
                && self.is_free(place)
        };
        let Some(place) = self.places(&row.effect).iter().find(fits) else { return false };
        let number = place.number;
        self.found.entries[number] = Some(entry);
        true
    }

    /// To an operation that was told something else, or else to one that may have been applied.
    fn lay(&mut self, user: i64, entry: &'a Entry, tally: &mut Tally) {
        if self.laid.contains(&(user, entry.version)) {
            return;
        }
        let row = Row::of(user, entry);
        let other = self.other_side(entry);
        let places = self.places(&row.effect);
        let free = || places.iter().filter(|place| self.is_free(place));
        let contradicted = free().find(|place| place.fact.is_some());
        // Either side alone may look like that of another operation.
        let open = |place: &&Place<'_>| {
            let case = &self.cases[place.operation];
            case.decision == Decision::Open
                && place.row == row
                && other.is_none_or(|(_, row)| case.operation.rows().contains(&row))
        };
        // Of equal ones, such as releases of one hold, nobody can say which it was. If any of them can have
        // been it, then so can the one that was called first: nothing else is known of when it was applied.
        let called = |place: &&Place<'_>| self.cases[place.operation].applied().called;
        let Some(place) = contradicted.or_else(|| free().filter(open).min_by_key(called)) else {
            return self.blame(user, entry, tally);
        };
        let (number, operation, fact) = (place.number, place.operation, place.fact);
        self.found.entries[number] = Some(entry);
        if fact.is_some() {
            tally.add(Kind::WrongEntry, || self.story(operation, user, entry));
        } else if let Some((entry, row)) = other {
            self.lay_other_side(operation, row, entry);
        }
    }

    fn other_side(&self, entry: &Entry) -> Option<(&'a Entry, Row<'a>)> {
        let peer = entry.peer?;
        let other = self.books.users.get(&peer.user)?.entry(peer.version)?;
        Some((other, Row::of(peer.user, other)))
    }

    fn lay_other_side(&mut self, operation: usize, row: Row<'_>, entry: &'a Entry) {
        let rows = self.cases[operation].operation.rows();
        if let Some(place) = rows.iter().position(|asked| *asked == row) {
            self.found.entries[self.found.begins[operation] + place] = Some(entry);
            self.laid.insert((row.effect.user, entry.version));
        }
    }

    /// An entry beyond those that the operations may leave. One operation is one violation, however many
    /// entries it has left.
    fn blame(&mut self, user: i64, entry: &Entry, tally: &mut Tally) {
        let places = self.places(&Effect::of(user, entry));
        let decision = |place: &Place<'_>| self.cases[place.operation].decision;
        let refused =
            |place| matches!(decision(place), Decision::Refused(_) | Decision::NotApplied);
        let kind = match places {
            [] => Kind::ForeignEntry,
            _ if places.iter().all(refused) => Kind::AppliedThoughRefused,
            _ if places.iter().all(|place| self.is_free(place)) => Kind::ForeignEntry,
            _ => Kind::AppliedTwice,
        };
        let asker = places.iter().find(|place| !self.is_free(place)).or(places.first());
        let Some(operation) = asker.map(|place| place.operation) else {
            let mut story = Story::default();
            story.entry(user, entry);
            return tally.add(kind, || story.to_string());
        };
        if self.blamed.insert((operation, kind)) {
            tally.add(kind, || self.story(operation, user, entry));
        }
    }

    fn check_completeness(&self, tally: &mut Tally) {
        for (operation, case) in self.cases.iter().enumerate() {
            let entries = self.found.of(operation);
            let Some(missing) = entries.iter().position(Option::is_none) else { continue };
            let none = entries.iter().all(Option::is_none);
            let kind = match case.decision {
                Decision::Accepted(_) if none => Kind::MissingEntry,
                Decision::Accepted(_) => Kind::AppliedInPart,
                Decision::Open if !none => Kind::AppliedInPart,
                _ => continue,
            };
            tally.add(kind, || {
                let mut story = self.attempts(operation);
                let rows = case.operation.rows();
                for (row, entry) in rows.iter().zip(entries) {
                    if let Some(entry) = entry {
                        story.entry(row.effect.user, entry);
                    }
                }
                story.note(format!("the history has no {}", rows[missing]));
                story.to_string()
            });
        }
    }

    fn attempts(&self, operation: usize) -> Story {
        let case = &self.cases[operation];
        let mut story = Story::default();
        for attempt in &case.attempts {
            story.add(attempt, case.operation);
        }
        story
    }

    fn story(&self, operation: usize, user: i64, entry: &Entry) -> String {
        let mut story = self.attempts(operation);
        for found in self.found.of(operation).iter().flatten().filter(|found| **found != entry) {
            story.entry(user, found);
        }
        story.entry(user, entry);
        story.to_string()
    }
}
