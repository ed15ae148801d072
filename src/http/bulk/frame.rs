//! The frame of a bulk: its head, its mode, and its changes as texts.

use axum::http::HeaderMap;
use serde_json::value::RawValue;

use super::items::{Array, array};
use crate::http::body::{BODY, members_of, string};
use crate::http::error::HttpError;
use crate::http::key;
use crate::http::wire::{CHANGES_RULE, MODE_RULE};
use crate::ledger::Key;

/// What a bulk needs of the request's head.
pub(super) struct Head {
    /// Whether there is any key, valid or not.
    pub(super) has_key: bool,
    pub(super) key: Result<Option<Key>, HttpError>,
}

impl Head {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { has_key: headers.contains_key(key::NAME), key: key::read(headers) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Each,
    All,
}

/// A bulk whose changes are not parsed yet.
pub(super) struct Frame<'a> {
    pub(super) mode: Mode,
    /// At least one.
    pub(super) changes: Vec<&'a RawValue>,
}

impl<'a> Frame<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, HttpError> {
        let [mode, changes] = members_of(BODY, text, ["mode", "changes"])?;
        let mode = match mode.map(string) {
            None => Mode::Each,
            Some(Some(text)) if text == "each" => Mode::Each,
            Some(Some(text)) if text == "all" => Mode::All,
            Some(_) => return Err(HttpError::bad_request(MODE_RULE)),
        };
        match changes.map_or(Array::Other, array) {
            Array::Items(changes) if !changes.is_empty() => Ok(Self { mode, changes }),
            Array::TooLong => Err(HttpError::TooManyChanges),
            Array::Items(_) | Array::Other => Err(HttpError::bad_request(CHANGES_RULE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Mode, usize), String> {
        Frame::parse(text)
            .map(|frame| (frame.mode, frame.changes.len()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_frame_has_a_mode_and_changes() {
        assert_eq!(parse(r#"{"changes":[1,{}]}"#), Ok((Mode::Each, 2)));
        assert_eq!(parse(r#"{"mode":null,"changes":[1]}"#), Ok((Mode::Each, 1)));
        assert_eq!(parse(r#"{"mode":"\u0065ach","changes":[1]}"#), Ok((Mode::Each, 1)));
        assert_eq!(parse(r#"{"changes":[1],"mode":"all"}"#), Ok((Mode::All, 1)));
    }

    #[test]
    fn any_other_frame_is_refused_as_a_whole() {
        let unknown = "Unknown member \"to\"; the request body may have mode, changes";
        for (text, sentence) in [
            (r#"{"changes":[]}"#, CHANGES_RULE),
            (r#"{"changes":{}}"#, CHANGES_RULE),
            (r#"{"changes":null}"#, CHANGES_RULE),
            (r#"{"mode":"each"}"#, CHANGES_RULE),
            (r#"{"mode":"some","changes":[1]}"#, MODE_RULE),
            (r#"{"mode":1,"changes":[1]}"#, MODE_RULE),
            (r#"{"changes":[1],"to":2}"#, unknown),
            ("[1]", "The request body must be a JSON object with mode, changes"),
        ] {
            assert_eq!(parse(text), Err(sentence.to_owned()), "{text}");
        }
        let of = |count: usize| format!("{{\"changes\":[{}]}}", vec!["1"; count].join(","));
        assert_eq!(parse(&of(1_000)), Ok((Mode::Each, 1_000)));
        let too_many = "The request body must not have more than 1000 changes";
        assert_eq!(parse(&of(1_001)), Err(too_many.to_owned()));
    }
}
