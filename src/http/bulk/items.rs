//! The changes of a bulk: how each is parsed, and how each result is written.

use std::fmt::{self, Write as _};

use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::approach::bulk::Answers;
use crate::http::body::{CHANGE, amount, key, members_of, reference, user_id, whole_number};
use crate::http::error::{Failures, HttpError, write_item};
use crate::http::wire::{BULK_CHANGES_MAX, INSUFFICIENT, USER_REQUIRED};
use crate::ledger::{Change, Decision, Outcome};

/// Parses one change.
pub(super) fn change(text: &str) -> Result<Change, HttpError> {
    let names = ["userId", "amount", "key", "reference"];
    let [user, by, own_key, text] = members_of(CHANGE, text, names)?;
    let (Some(user), Some(by)) = (user, by) else {
        return Err(HttpError::bad_request(USER_REQUIRED));
    };
    Ok(Change {
        user: user_id("userId", whole_number("userId", user, 1)?)?,
        amount: amount(by)?,
        key: own_key.map(key).transpose()?,
        reference: text.map(reference).transpose()?,
    })
}

/// Changes of one request, and those that could not be parsed.
#[derive(Default)]
pub(super) struct Items {
    pub(super) changes: Vec<Change>,
    malformed: Malformed,
}

/// The errors, with the positions of their items.
type Malformed = Vec<(usize, HttpError)>;

impl Items {
    pub(super) fn push(&mut self, parsed: Result<Change, HttpError>) {
        match parsed {
            Ok(change) => self.changes.push(change),
            Err(error) => self.malformed.push((self.len(), error)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len() + self.malformed.len()
    }

    /// Takes the changes out, and leaves what their answers are combined with.
    pub(super) fn split(self) -> (Vec<Change>, Unanswered) {
        (self.changes, Unanswered(self.malformed))
    }
}

/// The items of a request whose changes are not answered yet.
pub(super) struct Unanswered(Malformed);

impl Unanswered {
    /// Calls `write` with the result of each item, in order. Returns the errors of the service among
    /// them, for the log.
    pub(super) fn with(
        self,
        answers: &Answers,
        mut write: impl FnMut(Result<Outcome, &HttpError>),
    ) -> Failures {
        let mut answers = answers.iter();
        let mut malformed = self.0.into_iter().peekable();
        let mut failures = Failures::default();
        for position in 0..answers.len() + malformed.len() {
            if let Some((_, error)) = malformed.next_if(|(at, _)| *at == position) {
                write(Err(&error));
                continue;
            }
            // There are as many answers as changes.
            let Some(answer) = answers.next() else { break };
            match answer.map_err(HttpError::Change) {
                Ok(outcome) => write(Ok(outcome)),
                Err(error) => {
                    failures.add(&error);
                    write(Err(&error));
                }
            }
        }
        failures
    }
}

/// Appends the result of one change.
pub(super) fn write_result(out: &mut String, result: Result<Outcome, &HttpError>) {
    // Writing to a String cannot fail.
    let _ = match result {
        Ok(Outcome { decision: Decision::Accepted(balance), .. }) => {
            write!(out, "{{\"balance\":{balance}}}")
        }
        Ok(Outcome { decision: Decision::Refused, .. }) => {
            write!(out, "{{\"status\":400,\"error\":\"{INSUFFICIENT}\"}}")
        }
        Err(error) => write_item(out, error),
    };
}

/// A member that should be an array.
pub(super) enum Array<'a> {
    Items(Vec<&'a RawValue>),
    /// More than [`BULK_CHANGES_MAX`] items.
    TooLong,
    /// Not an array.
    Other,
}

/// The items of an array, which is valid JSON.
pub(super) fn array(value: &RawValue) -> Array<'_> {
    if !value.get().starts_with('[') {
        return Array::Other;
    }
    serde_json::Deserializer::from_str(value.get())
        .deserialize_seq(ArrayVisitor)
        .unwrap_or(Array::Other)
}

struct ArrayVisitor;

impl<'de> Visitor<'de> for ArrayVisitor {
    type Value = Array<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while found.len() < BULK_CHANGES_MAX {
            match items.next_element()? {
                Some(item) => found.push(item),
                None => return Ok(Array::Items(found)),
            }
        }
        let mut is_too_long = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            is_too_long = true;
        }
        Ok(if is_too_long { Array::TooLong } else { Array::Items(found) })
    }
}
