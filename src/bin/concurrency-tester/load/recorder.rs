//! What one client has recorded. Nobody else writes into it, so it needs no lock.

use super::counts::Category;
use crate::contract::answer::Said;
use crate::contract::operation::Operation;
use crate::findings::Kind;
use crate::witness::record::{Attempt, Read, Record, Seen, Window};

#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) record: Record,
    /// Operations without a key whose outcome stayed unknown.
    pub(super) open: Vec<(usize, Category)>,
    /// What is wrong whatever the journal says: no answer in time, and reads with an answer that the
    /// contract does not allow.
    pub(super) wrong: Vec<(Kind, String)>,
    /// The last request without an answer in time: all its items are one violation.
    timed_out: Option<usize>,
}

/// One request, or one item of it, and the instance that it went to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending {
    pub(super) target: usize,
    pub(super) request: usize,
    pub(super) position: usize,
    pub(super) window: Window,
}

impl Recorder {
    /// Returns its position.
    pub(super) fn operation(&mut self, operation: Operation) -> usize {
        self.record.operations.push(operation);
        self.record.operations.len() - 1
    }

    pub(super) fn attempt(&mut self, operation: usize, sending: Sending, said: Said, text: String) {
        let Sending { target, request, position, window } = sending;
        if said == Said::Lost(Kind::TimedOut) && self.timed_out != Some(request) {
            self.timed_out = Some(request);
            let rows = self.record.operations[operation].rows();
            let asked = rows.first().map(ToString::to_string).unwrap_or_default();
            self.wrong.push((Kind::TimedOut, format!("request {request}: {asked}: {text}")));
        }
        let text = text.into();
        self.record.attempts.push(Attempt {
            operation,
            target,
            request,
            position,
            window,
            said,
            text,
        });
    }

    pub(super) fn read(&mut self, request: usize, window: Window, seen: Seen) {
        self.record.reads.push(Read { request, window, seen });
    }

    /// Adds what another client has recorded.
    pub(super) fn absorb(&mut self, other: Self) {
        let first = self.record.operations.len();
        let Record { operations, attempts, reads } = other.record;
        self.record.operations.extend(operations);
        self.record.attempts.extend(attempts.into_iter().map(|mut attempt| {
            attempt.operation += first;
            attempt
        }));
        self.record.reads.extend(reads);
        self.open.extend(other.open.into_iter().map(|(n, category)| (n + first, category)));
        self.wrong.extend(other.wrong);
    }
}
