//! Reads the replies: what the service says about each operation.

mod bodies;

#[cfg(test)]
mod tests;

use serde_json::value::RawValue;

use bodies::{Balance, Failure, Refusal, Results, accepted, balance_fact, exact};

use super::operation::{Action, Operation};
use super::traffic::{Ask, Traffic};
use crate::exactness::Kind;
use crate::reply::{REFUSAL, Reply};

const STILL_RUNNING: &str = "A change with the same Idempotency-Key is still running, try again";

/// What one request was told about one operation.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The number of the request, from 1, as in the log.
    pub(crate) request: usize,
    pub(crate) said: Said,
    /// Equal answers are equal texts.
    pub(crate) text: String,
}

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

/// The answers to each operation, in order of requests.
pub(crate) fn read_all(traffic: &Traffic, replies: &[Reply]) -> Vec<Vec<Answer>> {
    let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); traffic.operations.len()];
    for (number, (ask, reply)) in traffic.asks.iter().zip(replies).enumerate() {
        let request = number + 1;
        match ask {
            Ask::One(n) => {
                let said = read(&traffic.operations[*n], reply);
                answers[*n].push(Answer { request, said, text: reply.to_string() });
            }
            Ask::Each(operations) => {
                for (n, (said, text)) in operations.iter().zip(read_each(operations.len(), reply)) {
                    answers[*n].push(Answer { request, said, text });
                }
            }
        }
    }
    answers
}

fn read(operation: &Operation, reply: &Reply) -> Said {
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
fn read_each(changes: usize, reply: &Reply) -> Vec<(Said, String)> {
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
            results.iter().map(|result| (read_result(result.get()), result.get().into())).collect()
        }
        _ => all(Said::Wrong(Kind::UnexpectedBody(200))),
    }
}

fn read_result(text: &str) -> Said {
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
