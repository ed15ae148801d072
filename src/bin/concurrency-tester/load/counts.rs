//! What a load has done so far, by category of operation.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The ways in which operations are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    Change,
    Each,
    Stream,
    All,
    Transfer,
    Hold,
    Capture,
    Release,
}

impl Category {
    pub(crate) const ALL: [Self; 8] = [
        Self::Change,
        Self::Each,
        Self::Stream,
        Self::All,
        Self::Transfer,
        Self::Hold,
        Self::Capture,
        Self::Release,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Each => "bulk-each",
            Self::Stream => "stream",
            Self::All => "bulk-all",
            Self::Transfer => "transfer",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Release => "release",
        }
    }
}

/// What is counted of each category.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Acknowledged,
    Refused,
    NotApplied,
    Wrong,
    Unknown,
    AppliedByKey,
    NotAppliedByKey,
    Unresolved,
}

const COUNTS: usize = 8;

/// Counters that all clients share. Reading them stops nobody.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicUsize,
    pub(super) reads: AtomicUsize,
    cells: [[AtomicUsize; COUNTS]; Category::ALL.len()],
}

impl Counters {
    pub(super) fn add(&self, category: Category, count: Count) {
        self.cells[category as usize][count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Counts {
        let mut counts = Counts {
            requests: self.requests.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            categories: Default::default(),
        };
        for (category, cells) in counts.categories.iter_mut().zip(&self.cells) {
            let cell = |count: Count| cells[count as usize].load(Ordering::Relaxed);
            *category = Operations {
                acknowledged: cell(Count::Acknowledged),
                refused: cell(Count::Refused),
                not_applied: cell(Count::NotApplied),
                wrong: cell(Count::Wrong),
                unknown: cell(Count::Unknown),
                applied_by_key: cell(Count::AppliedByKey),
                not_applied_by_key: cell(Count::NotAppliedByKey),
                unresolved: cell(Count::Unresolved),
                in_journal: 0,
                not_in_journal: 0,
            };
        }
        counts
    }
}

/// What a load has done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// All that were sent, also those that a client cut, and those that were sent again.
    pub(crate) requests: usize,
    /// Reads that were answered.
    pub(crate) reads: usize,
    /// In the order of [`Category::ALL`].
    pub(crate) categories: [Operations; Category::ALL.len()],
}

/// Operations, each counted once, however often it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Operations {
    /// Answered with a success in the end.
    pub(crate) acknowledged: usize,
    /// Insufficient funds, or a hold that was resolved before.
    pub(crate) refused: usize,
    /// Every answer says that it was not applied, and it was not sent again.
    pub(crate) not_applied: usize,
    /// Answered by what the contract does not allow.
    pub(crate) wrong: usize,
    /// The outcome was unknown at least once, and no answer was wrong. The five that follow add up to it.
    pub(crate) unknown: usize,
    /// Sent again with its key, and applied.
    pub(crate) applied_by_key: usize,
    /// Sent again with its key, and refused.
    pub(crate) not_applied_by_key: usize,
    /// Has a key, and nobody answered until the end.
    pub(crate) unresolved: usize,
    /// Has no key, and its entry is in the final read.
    pub(crate) in_journal: usize,
    /// Has no key, and its entry is not in the final read.
    pub(crate) not_in_journal: usize,
}

impl Operations {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.not_applied += other.not_applied;
        self.wrong += other.wrong;
        self.unknown += other.unknown;
        self.applied_by_key += other.applied_by_key;
        self.not_applied_by_key += other.not_applied_by_key;
        self.unresolved += other.unresolved;
        self.in_journal += other.in_journal;
        self.not_in_journal += other.not_in_journal;
    }

    /// All of them: each ended in one of these ways.
    pub(crate) fn operations(&self) -> usize {
        let known = self.applied_by_key + self.not_applied_by_key;
        let open = self.unknown.saturating_sub(known);
        self.acknowledged + self.refused + self.not_applied + self.wrong + open
    }
}

impl Counts {
    /// Of all categories together.
    pub(crate) fn total(&self) -> Operations {
        let mut total = Operations::default();
        self.categories.iter().for_each(|operations| total.add(operations));
        total
    }
}
