//! When each entry can have been committed, as far as the clients know: the heart of the judge.
//!
//! A user's entries were committed in the order of their versions. Every answer bounds the moment of a
//! commit: an operation commits after its call, and before its answer; who reads version `v` does so
//! after the commit of `v`, and before that of `v + 1`. So version `v` was committed after every bound
//! from below of any version up to `v`, and before every bound from above of any version from `v` on.
//! The history is a true account (it is linearizable) if and only if no bound from below of `v` lies
//! after one from above.
//!
//! That takes one walk over each history. A refusal is true if some balance that was too low can have
//! been current between call and answer: those versions follow each other, so it takes the lowest balance
//! of a range.

use std::collections::BTreeMap;

use super::cases::Case;
use super::effects::Effects;
use super::record::{Attempt, Read, Window};
use super::story::Story;
use crate::contract::books::{Books, History};
use crate::contract::operation::Operation;
use crate::findings::{Kind, Tally};

/// Who knows of a bound.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// Nobody: there is no bound.
    None,
    Operation(&'a Attempt, &'a Operation),
    Read(&'a Read),
}

#[derive(Debug, Clone, Copy)]
struct Bound<'a> {
    at: u64,
    source: Source<'a>,
}

/// The bounds of one user's commits. Version `before` counts as committed before the run.
pub(super) struct CommitTimes<'a> {
    pub(super) history: &'a History,
    /// In order of versions, beginning with `before`.
    after: Vec<Bound<'a>>,
    until: Vec<Bound<'a>>,
}

impl<'a> CommitTimes<'a> {
    fn of(history: &'a History) -> Self {
        let count = history.entries.len() + 1;
        let nothing = |at| vec![Bound { at, source: Source::None }; count];
        Self { history, after: nothing(0), until: nothing(u64::MAX) }
    }

    fn place(&self, version: i64) -> Option<usize> {
        let place = version.checked_sub(self.history.before.version)?;
        usize::try_from(place).ok().filter(|place| *place < self.after.len())
    }

    /// This version was committed after the moment.
    pub(super) fn committed_after(&mut self, version: i64, at: u64, source: Source<'a>) {
        if let Some(place) = self.place(version)
            && self.after[place].at < at
        {
            self.after[place] = Bound { at, source };
        }
    }

    /// This version was committed at the moment.
    pub(super) fn committed_by(&mut self, version: i64, at: u64, source: Source<'a>) {
        if let Some(place) = self.place(version)
            && self.until[place].at > at
        {
            self.until[place] = Bound { at, source };
        }
    }

    /// Spreads each bound to the versions that it holds for as well, and reports those that no order of
    /// commits fulfils.
    fn settle(&mut self, user: i64, tally: &mut Tally) {
        for place in 1..self.after.len() {
            if self.after[place].at < self.after[place - 1].at {
                self.after[place] = self.after[place - 1];
            }
        }
        for place in 1..self.after.len() {
            let (after, until) = (self.after[place], self.until[place]);
            if after.at > until.at {
                self.report(user, place, tally);
            }
        }
        for place in (1..self.until.len()).rev() {
            if self.until[place - 1].at > self.until[place].at {
                self.until[place - 1] = self.until[place];
            }
        }
    }

    fn report(&self, user: i64, place: usize, tally: &mut Tally) {
        let (after, until) = (self.after[place].source, self.until[place].source);
        let kind = match (after, until) {
            (Source::Operation(..), Source::Operation(..)) => Kind::RealTimeOrder,
            (Source::Read(_), _) => Kind::StaleRead,
            _ => Kind::ReadTooEarly,
        };
        tally.add(kind, || {
            let mut story = Story::default();
            for source in [after, until] {
                match source {
                    Source::None => {}
                    Source::Operation(attempt, operation) => story.add(attempt, operation),
                    Source::Read(read) => story.read(read),
                }
            }
            // The entry of the earlier bound may be some versions before.
            let first =
                self.after[..place].partition_point(|bound| bound.at < self.after[place].at);
            for place in [first.min(place), place] {
                if let Some(entry) = place.checked_sub(1).map(|n| &self.history.entries[n]) {
                    story.entry(user, entry);
                }
                if first >= place {
                    break;
                }
            }
            story.to_string()
        });
    }

    /// The balances that can have been current at some moment of the window, as a range of places. Place
    /// 0 is the balance before the run.
    pub(super) fn current(&self, window: Window) -> std::ops::Range<usize> {
        let end = self.after.partition_point(|bound| bound.at <= window.returned);
        // A version was current until the next one was committed.
        let begin = self.until[1..].partition_point(|bound| bound.at < window.called);
        begin..end.max(begin + 1)
    }
}

/// The bounds of all users whose history has no gap.
pub(super) struct AllCommitTimes<'a> {
    users: BTreeMap<i64, CommitTimes<'a>>,
}

impl<'a> AllCommitTimes<'a> {
    pub(super) fn of(books: &'a Books) -> Self {
        let is_whole = |history: &History| {
            let versions = history.entries.iter().map(|entry| entry.version);
            versions.zip(history.before.version + 1..).all(|(version, due)| version == due)
        };
        let whole = books.users.iter().filter(|(_, history)| is_whole(history));
        Self { users: whole.map(|(user, history)| (*user, CommitTimes::of(history))).collect() }
    }

    pub(super) fn get(&self, user: i64) -> Option<&CommitTimes<'a>> {
        self.users.get(&user)
    }

    pub(super) fn get_mut(&mut self, user: i64) -> Option<&mut CommitTimes<'a>> {
        self.users.get_mut(&user)
    }

    /// Every applied operation bounds the commits of its entries.
    pub(super) fn add_operations(&mut self, cases: &[Case<'a>], effects: &Effects<'a>) {
        for (number, case) in cases.iter().enumerate() {
            let Some(first) = case.attempts.first() else { continue };
            let window = case.applied();
            let answered = case.attempts.iter().find(|a| a.window.returned == window.returned);
            let source = |attempt| Source::Operation(attempt, case.operation);
            for (row, entry) in case.operation.rows().iter().zip(effects.of(number)) {
                let Some(entry) = entry else { continue };
                let Some(times) = self.get_mut(row.effect.user) else { continue };
                times.committed_after(entry.version, window.called, source(first));
                if let Some(answered) = answered {
                    times.committed_by(entry.version, window.returned, source(answered));
                }
            }
        }
    }

    pub(super) fn settle(&mut self, tally: &mut Tally) {
        for (user, times) in &mut self.users {
            times.settle(*user, tally);
        }
    }
}
