//! Reads the replies: what the service says about each operation.

mod bodies;

#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::value::RawValue;

use bodies::{Balance, Failure, Refusal, Results, accepted, balance_fact, exact};

use super::books::Entry;
use super::operation::{Action, Operation};
use crate::findings::Kind;
use crate::reply::{REFUSAL, Reply};

const STILL_RUNNING: &str = "A change with the same Idempotency-Key is still running, try again";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// What it says about each entry, in the order of [`Operation::rows`].
    Accepted(Vec<Fact>),
    /// Insufficient funds. Of a bulk, the position of the change.
    Refused(Option<usize>),
    /// The hold was resolved before; its state.
    Resolved(&'static str),
    /// Another request with the same key is still running: nothing of this one is applied.
    StillRunning,
    /// 503: known to be not applied.
    NotApplied,
    /// 504, or no answer at all: it may have been applied.
    Lost(Kind),
    /// An answer that the contract does not allow. It may have been applied.
    Wrong(Kind),
}

/// What an answer says about one entry. `None`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) version: Option<i64>,
    pub(crate) balance: Option<i64>,
    pub(crate) held: Option<i64>,
    pub(crate) peer_version: Option<i64>,
}

impl Fact {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            version: Some(entry.version),
            balance: Some(entry.balance),
            held: Some(entry.held),
            peer_version: entry.peer.map(|peer| peer.version),
        }
    }

    /// Whether all that it says is true of the entry.
    pub(crate) fn fits(&self, entry: &Entry) -> bool {
        let fits = |said: Option<i64>, found: Option<i64>| said.is_none() || said == found;
        let found = Self::of(entry);
        fits(self.version, found.version)
            && fits(self.balance, found.balance)
            && fits(self.held, found.held)
            && fits(self.peer_version, found.peer_version)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// What a reply says about the operation that it answers.
pub(crate) fn read(operation: &Operation, reply: &Reply) -> Said {
    let (status, body) = match reply {
        Reply::TimedOut => return Said::Lost(Kind::TimedOut),
        Reply::ConnectionLost(_) => return Said::Lost(Kind::ConnectionLost),
        Reply::Answer { status, body } => (*status, &**body),
    };
    let success = match operation.action {
        Action::Transfer { .. } | Action::Reserve { .. } => 201,
        _ => 200,
    };
    if status == success {
        return accepted(operation, body)
            .map_or(Said::Wrong(Kind::UnexpectedBody(status)), Said::Accepted);
    }
    said_no(&operation.action, status, body)
}

/// The answer to an operation that was not accepted.
fn said_no(action: &Action, status: u16, body: &[u8]) -> Said {
    let sentence = exact::<Refusal>(body).map(|refusal| refusal.error);
    let sentence = sentence.as_deref().unwrap_or_default();
    let resolves = matches!(action, Action::Capture { .. } | Action::Release { .. });
    let known = match (status, action) {
        (400, Action::All(items)) => {
            refused_at(sentence, items.len()).map(|n| Said::Refused(Some(n)))
        }
        (400, _) => (body == REFUSAL && !resolves).then_some(Said::Refused(None)),
        (409, _) if sentence == STILL_RUNNING => Some(Said::StillRunning),
        (409, _) if resolves => resolution(sentence).map(Said::Resolved),
        (503, _) => Some(Said::NotApplied),
        (504, _) => return Said::Lost(Kind::UnexpectedStatus(504)),
        _ => return Said::Wrong(Kind::UnexpectedStatus(status)),
    };
    known.unwrap_or(Said::Wrong(match status {
        400 => Kind::UnexpectedBody(400),
        status => Kind::UnexpectedStatus(status),
    }))
}

fn resolution(sentence: &str) -> Option<&'static str> {
    let state = sentence.strip_prefix("The hold is ")?;
    ["captured", "released", "expired"].into_iter().find(|known| *known == state)
}

/// The position in `changes[17]: Insufficient funds`.
fn refused_at(sentence: &str, changes: usize) -> Option<usize> {
    let position = sentence.strip_prefix("changes[")?.strip_suffix("]: Insufficient funds")?;
    let position = position.parse().ok()?;
    let exact = sentence == format!("changes[{position}]: Insufficient funds");
    (exact && position < changes).then_some(position)
}

/// What a bulk that decides each change for itself says about each, with its text.
pub(crate) fn read_each(changes: usize, reply: &Reply) -> Vec<(Said, String)> {
    let all = |said: Said| vec![(said, reply.to_string()); changes];
    let body = match reply {
        Reply::TimedOut => return all(Said::Lost(Kind::TimedOut)),
        Reply::ConnectionLost(_) => return all(Said::Lost(Kind::ConnectionLost)),
        Reply::Answer { status: 200, body } => body,
        Reply::Answer { status: 503, .. } => return all(Said::NotApplied),
        Reply::Answer { status: 504, .. } => return all(Said::Lost(Kind::UnexpectedStatus(504))),
        Reply::Answer { status, .. } => return all(Said::Wrong(Kind::UnexpectedStatus(*status))),
    };
    match exact::<Results<Box<RawValue>>>(body) {
        Some(Results { results }) if results.len() == changes => {
            results.iter().map(|result| (read_result(result.get()), alone(result.get()))).collect()
        }
        _ => all(Said::Wrong(Kind::UnexpectedBody(200))),
    }
}

/// The result of one change in a bulk, or in a stream, as the answer to a request of its own: a key may be
/// sent again by another route, and its answers are compared.
pub(crate) fn alone(result: &str) -> String {
    match exact::<Failure>(result.as_bytes()) {
        Some(Failure { status, error }) => {
            format!("{status} {}", serde_json::json!({ "error": error }))
        }
        None => format!("200 {result}"),
    }
}

/// What the result of one change in a bulk, or in a stream, says.
pub(crate) fn read_result(text: &str) -> Said {
    if let Some(balance) = exact::<Balance>(text.as_bytes()) {
        return Said::Accepted(vec![balance_fact(&balance)]);
    }
    let Some(Failure { status, error }) = exact(text.as_bytes()) else {
        return Said::Wrong(Kind::UnexpectedBody(200));
    };
    match (status, &*error) {
        (400, "Insufficient funds") => Said::Refused(None),
        (400, _) => Said::Wrong(Kind::UnexpectedBody(400)),
        (409, STILL_RUNNING) => Said::StillRunning,
        (503, _) => Said::NotApplied,
        (504, _) => Said::Lost(Kind::UnexpectedStatus(504)),
        _ => Said::Wrong(Kind::UnexpectedStatus(status)),
    }
}
