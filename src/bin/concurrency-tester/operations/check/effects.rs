//! Lays every entry to the operation that it comes from.

use std::collections::BTreeMap;

use super::super::answer::Fact;
use super::super::books::{Books, Entry};
use super::super::operation::Row;
use super::leftover::Leftover;
use super::{Case, Decision};
use crate::exactness::{Kind, Tally};

/// The entries of each operation, in order of its rows.
pub(super) struct Effects<'a> {
    pub(super) entries: Vec<Vec<Option<&'a Entry>>>,
}

impl<'a> Effects<'a> {
    pub(super) fn find(cases: &[Case<'_>], books: &'a Books, tally: &mut Tally) -> Self {
        let rows: Vec<_> = cases.iter().map(|case| case.operation.rows()).collect();
        let entries = rows.iter().map(|rows| vec![None; rows.len()]).collect();
        let mut search = Search { cases, rows, found: Self { entries }, left: Left::of(books) };
        search.take_what_was_answered();
        search.take_what_contradicts(tally);
        let Search { rows, found, left, .. } = &mut search;
        Leftover::of(cases, rows, &left.entries).lay(&mut found.entries, tally);
        search.check_completeness(tally);
        search.found
    }

    /// Whether the operation was applied: the answer says so, or its entries are there.
    pub(super) fn applied(&self, operation: usize, case: &Case<'_>) -> bool {
        match case.decided.decision {
            Decision::Accepted(_) => true,
            Decision::Open => self.entries[operation].iter().all(Option::is_some),
            Decision::Refused(_) | Decision::NotApplied => false,
        }
    }
}

/// The entries that belong to no operation yet, by what they say.
struct Left<'a> {
    entries: BTreeMap<Row, Vec<&'a Entry>>,
}

impl<'a> Left<'a> {
    fn of(books: &'a Books) -> Self {
        let mut entries: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (user, history) in &books.users {
            for entry in &history.entries {
                entries.entry(Row::of(*user, entry)).or_default().push(entry);
            }
        }
        Self { entries }
    }

    fn take(&mut self, row: &Row, fits: impl Fn(&Entry) -> bool) -> Option<&'a Entry> {
        let entries = self.entries.get_mut(row)?;
        let place = entries.iter().position(|entry| fits(entry))?;
        Some(entries.remove(place))
    }

    /// Whatever the entry with this version says.
    fn take_version(&mut self, user: i64, version: i64) -> Option<&'a Entry> {
        let has = |entries: &[&Entry]| entries.iter().position(|entry| entry.version == version);
        let mut of_user = self.entries.iter_mut().filter(|(row, _)| row.user == user);
        of_user.find_map(|(_, entries)| has(entries).map(|place| entries.remove(place)))
    }
}

struct Search<'a, 'c> {
    cases: &'c [Case<'c>],
    rows: Vec<Vec<Row>>,
    found: Effects<'a>,
    left: Left<'a>,
}

impl<'a, 'c> Search<'a, 'c> {
    /// For each accepted operation the entries that are just as answered.
    fn take_what_was_answered(&mut self) {
        for (n, facts) in accepted(self.cases) {
            let mut peer = None;
            for (place, (row, fact)) in self.rows[n].iter().zip(facts).enumerate() {
                // The other side is the one that the first side names.
                let version = fact.version.or(peer);
                let fact = Fact { version, ..*fact };
                let entry = self.left.take(row, |entry| fact.fits(entry));
                peer = entry.and_then(|entry| entry.peer).map(|peer| peer.version);
                self.found.entries[n][place] = entry;
            }
        }
    }

    /// For what is answered and not found: an entry that says something else.
    fn take_what_contradicts(&mut self, tally: &mut Tally) {
        for (n, facts) in accepted(self.cases) {
            for (place, fact) in facts.iter().enumerate() {
                if self.found.entries[n][place].is_some() {
                    continue;
                }
                let row = &self.rows[n][place];
                let by_row = self.left.take(row, |_| true);
                let entry = by_row
                    .or_else(|| fact.version.and_then(|v| self.left.take_version(row.user, v)));
                if let Some(entry) = entry {
                    self.found.entries[n][place] = Some(entry);
                    tally.add(Kind::WrongEntry, || {
                        let found = Row::of(row.user, entry);
                        let found = format!("{found}: {}", Fact::of(entry));
                        let request = self.cases[n].decided.request;
                        format!("request {request}: {row}: {fact}; the history has {found}")
                    });
                }
            }
        }
    }

    fn check_completeness(&self, tally: &mut Tally) {
        for (n, case) in self.cases.iter().enumerate() {
            let (entries, rows) = (&self.found.entries[n], &self.rows[n]);
            let missing = entries.iter().position(Option::is_none);
            let Some(missing) = missing else { continue };
            let none = entries.iter().all(Option::is_none);
            let kind = match case.decided.decision {
                Decision::Accepted(_) if none => Kind::MissingEntry,
                Decision::Accepted(_) => Kind::AppliedInPart,
                Decision::Open if !none && is_unmistakable(rows) => Kind::AppliedInPart,
                _ => continue,
            };
            tally.add(kind, || {
                format!("request {}: there is no {}", case.decided.request, rows[missing])
            });
        }
    }
}

/// False if an entry may have been laid to another open operation that asked for the same. The two
/// sides of one thing are always laid to the same one.
fn is_unmistakable(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.peer.is_some() || row.reference.is_some())
}

fn accepted<'c>(cases: &'c [Case<'c>]) -> impl Iterator<Item = (usize, &'c [Fact])> {
    cases.iter().enumerate().filter_map(|(n, case)| match case.decided.decision {
        Decision::Accepted(facts) => Some((n, facts)),
        _ => None,
    })
}

impl Fact {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            version: Some(entry.version),
            balance: Some(entry.balance),
            held: Some(entry.held),
            peer_version: entry.peer.map(|peer| peer.version),
        }
    }

    fn fits(&self, entry: &Entry) -> bool {
        let fits = |said: Option<i64>, found: Option<i64>| said.is_none() || said == found;
        let found = Self::of(entry);
        fits(self.version, found.version)
            && fits(self.balance, found.balance)
            && fits(self.held, found.held)
            && fits(self.peer_version, found.peer_version)
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("version", self.version),
            ("balance", self.balance),
            ("held", self.held),
            ("version of the other side", self.peer_version),
        ];
        let said: Vec<_> = parts
            .into_iter()
            .filter_map(|(name, number)| number.map(|number| format!("{name} {number}")))
            .collect();
        f.write_str(&said.join(", "))
    }
}
