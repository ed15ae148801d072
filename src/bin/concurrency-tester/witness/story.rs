//! The few requests that show a violation, as a short timeline.

use std::fmt;

use super::record::{Attempt, Read, Seen, Window};
use crate::contract::answer::Fact;
use crate::contract::books::Entry;
use crate::contract::operation::{Operation, Row};

/// The longest answer that is shown in full.
const TEXT_MAX: usize = 200;

/// Requests in order of their calls, then entries.
#[derive(Debug, Default)]
pub(super) struct Story {
    requests: Vec<(Window, String)>,
    entries: Vec<String>,
}

impl Story {
    pub(super) fn of(attempt: &Attempt, operation: &Operation) -> Self {
        let mut story = Self::default();
        story.add(attempt, operation);
        story
    }

    pub(super) fn add(&mut self, attempt: &Attempt, operation: &Operation) {
        let Attempt { request, target, text, .. } = attempt;
        let text: String = text.chars().take(TEXT_MAX).collect();
        let line = format!("request {request} to instance {}: {operation}: {text}", target + 1);
        self.requests.push((attempt.window, line));
    }

    pub(super) fn read(&mut self, read: &Read) {
        let line = format!("request {}: {}", read.request, read.seen);
        self.requests.push((read.window, line));
    }

    pub(super) fn entry(&mut self, user: i64, entry: &Entry) {
        let (row, fact, at) = (Row::of(user, entry), Fact::of(entry), entry.created_at);
        self.entries.push(format!("the history has {row}: {fact}, at {at}"));
    }

    pub(super) fn note(&mut self, line: String) {
        self.entries.push(line);
    }
}

/// One line each.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut requests: Vec<_> = self.requests.iter().collect();
        requests.sort_by_key(|(window, _)| (window.called, window.returned));
        let mut lines = Vec::new();
        for (window, line) in requests {
            lines.push(format!("{}–{} s {line}", Seconds(window.called), Seconds(window.returned)));
        }
        lines.extend(self.entries.iter().cloned());
        f.write_str(&lines.join("\n"))
    }
}

struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { user, state } => write!(f, "user {user} has {state}"),
            Self::At { user, asked, then } => {
                write!(f, "user {user} at {asked} had {}", then.state)
            }
            Self::Version { user, asked, then } => {
                write!(f, "user {user} after version {asked} had {}, at {}", then.state, then.at)
            }
            Self::Page { user, before, entries } => {
                write!(f, "user {user}, {} entries", entries.len())?;
                before.map_or(Ok(()), |before| write!(f, " before version {before}"))?;
                let newest = entries.first();
                newest.map_or(Ok(()), |entry| write!(f, ", the newest: {}", Fact::of(entry)))
            }
            Self::Hold { id, hold } => {
                let (number, state, captured) = (id.hold, &hold.state, hold.captured);
                write!(f, "hold {number} of user {} is {state}, captured {captured}", id.user)
            }
        }
    }
}
