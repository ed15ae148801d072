//! Entries that no answer explains: those of operations whose answer was lost. Any other entry is one
//! too many.

use std::collections::{BTreeMap, BTreeSet};

use super::super::answer::Fact;
use super::super::books::Entry;
use super::super::operation::Row;
use super::{Case, Decision};
use crate::exactness::{Kind, Tally};

/// User and version.
type Id = (i64, i64);

/// A row of an operation.
#[derive(Clone, Copy)]
struct Place {
    operation: usize,
    row: usize,
}

pub(super) struct Leftover<'a, 's> {
    cases: &'s [Case<'s>],
    rows: &'s [Vec<Row>],
    left: BTreeMap<Id, (&'s Row, &'a Entry)>,
    /// Who asked for such an entry.
    askers: BTreeMap<&'s Row, Vec<Place>>,
}

impl<'a, 's> Leftover<'a, 's> {
    pub(super) fn of(
        cases: &'s [Case<'s>],
        rows: &'s [Vec<Row>],
        left: &'s BTreeMap<Row, Vec<&'a Entry>>,
    ) -> Self {
        let mut askers: BTreeMap<&Row, Vec<Place>> = BTreeMap::new();
        for (operation, rows) in rows.iter().enumerate() {
            for (row, asked) in rows.iter().enumerate() {
                askers.entry(asked).or_default().push(Place { operation, row });
            }
        }
        let entries = left.iter().flat_map(|(row, entries)| entries.iter().map(move |e| (row, *e)));
        let left = entries.map(|(row, entry)| ((row.user, entry.version), (row, entry))).collect();
        Self { cases, rows, left, askers }
    }

    /// Lays each to an operation whose answer was lost, or reports it. `found` has the entries of each
    /// operation, in order of its rows.
    pub(super) fn lay(&self, found: &mut [Vec<Option<&'a Entry>>], tally: &mut Tally) {
        let mut laid = BTreeSet::new();
        let mut blamed = BTreeSet::new();
        for (id, (row, entry)) in &self.left {
            if laid.contains(id) {
                continue;
            }
            let askers = self.askers.get(row).map_or([].as_slice(), Vec::as_slice);
            let other = self.other_side(entry);
            if let Some(place) = self.open(askers, other, found) {
                found[place.operation][place.row] = Some(entry);
                if let Some((peer, row, other)) = other
                    && let Some(at) = self.rows[place.operation].iter().position(|r| r == row)
                {
                    found[place.operation][at] = Some(other);
                    laid.insert(peer);
                }
                continue;
            }
            let kind = self.surplus(askers);
            let asker = askers.first().map(|place| place.operation);
            // One operation is one violation, however many entries it has left.
            if asker.is_none_or(|operation| blamed.insert((operation, kind))) {
                let by = asker.map(|operation| self.cases[operation].decided.request);
                tally.add(kind, || {
                    let by = by.map(|request| format!("request {request}: ")).unwrap_or_default();
                    format!("{by}{row}: {}", Fact::of(entry))
                });
            }
        }
    }

    fn other_side(&self, entry: &Entry) -> Option<(Id, &'s Row, &'a Entry)> {
        let peer = entry.peer.map(|peer| (peer.user, peer.version))?;
        self.left.get(&peer).map(|(row, other)| (peer, *row, *other))
    }

    /// An operation that asked for such an entry and may have been applied, best one that asked for
    /// the other side as well: each side alone may look like that of another operation.
    fn open(
        &self,
        askers: &[Place],
        other: Option<(Id, &Row, &Entry)>,
        found: &[Vec<Option<&Entry>>],
    ) -> Option<Place> {
        let is_open = |place: &&Place| {
            self.cases[place.operation].decided.decision == Decision::Open
                && found[place.operation][place.row].is_none()
        };
        let has_other = |place: &&Place| {
            other.is_none_or(|(_, row, _)| self.rows[place.operation].contains(row))
        };
        let mut open = askers.iter().filter(is_open);
        open.clone().find(has_other).or_else(|| open.next()).copied()
    }

    /// The name of an entry beyond those that these operations may leave.
    fn surplus(&self, askers: &[Place]) -> Kind {
        let decision = |place: &Place| self.cases[place.operation].decided.decision;
        let refused =
            |place| matches!(decision(place), Decision::Refused(_) | Decision::NotApplied);
        match askers {
            [] => Kind::ForeignEntry,
            _ if askers.iter().all(refused) => Kind::AppliedThoughRefused,
            _ => Kind::AppliedTwice,
        }
    }
}
