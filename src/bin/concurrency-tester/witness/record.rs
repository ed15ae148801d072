//! What the clients of a run asked for, and what they were told.

use crate::contract::answer::Said;
use crate::contract::books::{Entry, HoldId, HoldState, State};
use crate::contract::operation::Operation;
use crate::contract::time::Micros;

/// Everything that the clients of a run recorded, in any order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// Each must be applied at most once, however often it was attempted.
    pub(crate) operations: Vec<Operation>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) reads: Vec<Read>,
}

/// From just before a request was sent until just after its answer was read, in nanoseconds since the
/// beginning of the run, by a clock that never runs backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) called: u64,
    /// Without an answer, the moment when the client gave up.
    pub(crate) returned: u64,
}

/// One request for an operation, or one item of a bulk or of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// Its position in [`Record::operations`].
    pub(crate) operation: usize,
    /// The instance that was asked: its position among the targets of the run.
    pub(crate) target: usize,
    /// The number of the request. All items of a bulk or of a stream have the same.
    pub(crate) request: usize,
    /// The position in the bulk or stream; 0 for any other request.
    pub(crate) position: usize,
    /// Of an item of a stream: from just before its line was sent until just after its result was read.
    pub(crate) window: Window,
    pub(crate) said: Said,
    /// The answer, or why there is none. Equal answers are equal texts.
    pub(crate) text: Box<str>,
}

/// One answered request that changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) request: usize,
    pub(crate) window: Window,
    pub(crate) seen: Seen,
}

/// What a read was told.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// `GET /users/{id}`, or a change by 0.
    State { user: i64, state: State },
    /// `GET /users/{id}/balance?at=…`
    At { user: i64, asked: Micros, then: Then },
    /// `GET /users/{id}/balance?version=…`
    Version { user: i64, asked: i64, then: Then },
    /// `GET /users/{id}/changes?limit=…`, newest first. Without `before`, it begins with the newest
    /// entry of the moment. With it, there is an entry of the version before.
    Page { user: i64, before: Option<i64>, entries: Vec<Entry> },
    /// `GET /users/{id}/holds/{hold}`
    Hold { id: HoldId, hold: HoldState },
}

/// A balance at a moment, or right after a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Then {
    #[serde(flatten)]
    pub(crate) state: State,
    /// The moment that it holds for.
    pub(crate) at: Micros,
}
