//! Reads a request's body, strictly.
//!
//! The sentence of a refusal names the mistake and the correct form. Money is never guessed: no
//! float is rounded, no string is parsed as a number, no member is ignored or given twice, and a
//! JSON array is not an object.

use std::borrow::Cow;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use futures_util::future::poll_immediate;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::error::HttpError;
use super::wire::{BODY_BYTES_MAX, DRAINED_BYTES_MAX, JSON, KEY_RULE, REFERENCE_RULE};
use crate::ledger::{Amount, Key, Payment, Reference, UserId};

/// Reads a JSON body of at most [`BODY_BYTES_MAX`] bytes that arrives within `limit`.
pub async fn read_json(request: Request<Body>, limit: Duration) -> Result<Bytes, HttpError> {
    JsonBody::of(request)?.read(limit).await
}

/// A body whose content type is JSON. The request's head is dropped, to save memory until the body
/// has arrived.
pub struct JsonBody {
    body: Body,
    most: usize,
}

impl JsonBody {
    /// Checks the head's content type and length, for a body of at most [`BODY_BYTES_MAX`] bytes.
    pub fn of(request: Request<Body>) -> Result<Self, HttpError> {
        Self::up_to(BODY_BYTES_MAX, request)
    }

    /// Checks the head's content type and length, for a body of at most `most` bytes.
    pub fn up_to(most: usize, request: Request<Body>) -> Result<Self, HttpError> {
        if !is_of_type(JSON, request.headers()) {
            return Err(HttpError::NotJson);
        }
        let is_too_large = request.body().size_hint().lower() > most as u64;
        if is_too_large && request.headers().contains_key(header::EXPECT) {
            // The client waits for permission: it has not sent the body yet.
            return Err(HttpError::BodyTooLarge(most));
        }
        Ok(Self { body: request.into_body(), most })
    }

    /// How many bytes it may have, as far as its head says.
    pub(super) fn length_max(&self) -> usize {
        let length = self.body.size_hint().upper().and_then(|upper| usize::try_from(upper).ok());
        length.unwrap_or(self.most).min(self.most)
    }

    /// Reads the body, which has to arrive within `limit`.
    pub async fn read(self, limit: Duration) -> Result<Bytes, HttpError> {
        let mut collecting = pin!(collect(self.body, self.most));
        // Nearly every body has arrived already and needs no timer.
        match poll_immediate(collecting.as_mut()).await {
            Some(collected) => collected,
            None => {
                Box::pin(timeout(limit, collecting)).await.map_err(|_| HttpError::BodyTimeout)?
            }
        }
    }
}

/// Whether the one content type of a request is this one, whatever its parameters are.
pub(super) fn is_of_type(kind: &str, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(kind.as_bytes())
}

async fn collect(mut body: Body, most: usize) -> Result<Bytes, HttpError> {
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    let mut seen: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| HttpError::BodyUnreadable)?;
        let Ok(part) = frame.into_data() else { continue };
        seen = seen.saturating_add(part.len());
        if seen > DRAINED_BYTES_MAX {
            break;
        }
        if seen > most {
            continue;
        }
        // Nearly every body has one part only, which is not copied.
        if first.is_empty() {
            first = part;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&part);
        }
    }
    if seen > most {
        return Err(HttpError::BodyTooLarge(most));
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

/// What a text is, in the sentences about it.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    /// At the beginning of a sentence.
    first: &'static str,
    /// Within one.
    within: &'static str,
}

/// The whole body.
pub(super) const BODY: Subject = Subject { first: "The request body", within: "the request body" };

/// One of many changes.
pub(super) const CHANGE: Subject = Subject { first: "A change", within: "a change" };

/// Parses one JSON object that may have each member of `names` once, and no others.
///
/// Returns the members' texts in the order of `names`. A missing or null member is `None`.
pub fn members<'a, const N: usize>(
    text: &'a [u8],
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], HttpError> {
    // One check of the whole text is cheaper than the parser's check of each string.
    let text = str::from_utf8(text).map_err(|error| not_json(BODY, error))?;
    members_of(BODY, text, names)
}

/// The same for any text. The sentences name the subject.
pub(super) fn members_of<'a, const N: usize>(
    subject: Subject,
    text: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], HttpError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let found = parser
        .deserialize_any(Members { names })
        .and_then(|members| parser.end().map(|()| members))
        .map_err(|error| not_json(subject, error))?;
    found.map_err(|problem| HttpError::bad_request(problem.describe(subject, &names)))
}

/// A mistake in a body that is valid JSON.
enum Problem {
    NotAnObject,
    Unknown(String),
    Twice(&'static str),
}

impl Problem {
    fn describe(&self, subject: Subject, names: &[&'static str]) -> String {
        let names = if names.is_empty() { "no members".to_owned() } else { names.join(", ") };
        let Subject { first, within } = subject;
        match self {
            Self::NotAnObject => format!("{first} must be a JSON object with {names}"),
            Self::Unknown(name) => format!("Unknown member {name:?}; {within} may have {names}"),
            Self::Twice(name) => format!("{name} must not be given twice"),
        }
    }
}

struct Members<const N: usize> {
    names: [&'static str; N],
}

/// Reads to the end even after a mistake, because invalid JSON is reported first.
impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = Result<[Option<&'de RawValue>; N], Problem>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        let mut seen = [false; N];
        let mut problem = None;
        while let Some(name) = map.next_key_seed(OneOf(&self.names))? {
            let value: &RawValue = map.next_value()?;
            match name {
                Err(unknown) => drop(problem.get_or_insert(Problem::Unknown(unknown))),
                Ok(i) if seen[i] => drop(problem.get_or_insert(Problem::Twice(self.names[i]))),
                Ok(i) => {
                    seen[i] = true;
                    found[i] = Some(value).filter(|value| value.get() != "null");
                }
            }
        }
        Ok(problem.map_or(Ok(found), Err))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(Err(Problem::NotAnObject))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Err(Problem::NotAnObject))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Err(Problem::NotAnObject))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Err(Problem::NotAnObject))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Err(Problem::NotAnObject))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Err(Problem::NotAnObject))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Err(Problem::NotAnObject))
    }
}

/// Turns a member's name into its position among the known names.
struct OneOf<'a>(&'a [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for OneOf<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let position = self.0.iter().position(|known| *known == name);
        Ok(position.ok_or_else(|| name.to_owned()))
    }
}

pub(super) fn not_json(subject: Subject, error: impl fmt::Display) -> HttpError {
    HttpError::bad_request(format!("{} is not valid JSON: {error}", subject.first))
}

/// A whole number in `least ..= i64::MAX`, or a sentence that names the member.
pub fn whole_number(name: &str, value: &RawValue, least: i64) -> Result<i64, HttpError> {
    // The text is valid JSON. `parse` refuses a fraction, an exponent, another type, and a number
    // out of range.
    let number = value.get().parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| HttpError::not_in_range(name, least, i64::MAX))
}

/// A user's number, or a sentence that starts with `name`.
pub fn user_id(name: &str, number: i64) -> Result<UserId, HttpError> {
    UserId::new(number).ok_or_else(|| HttpError::not_in_range(name, 1, i64::MAX))
}

/// An amount of minor units, or a sentence that says what it must be.
pub fn amount(value: &RawValue) -> Result<Amount, HttpError> {
    let number = whole_number("amount", value, -i64::MAX)?;
    Amount::new(number).ok_or_else(|| HttpError::bad_request("amount is out of range"))
}

/// An amount of at least 1, or a sentence that starts with `name`.
pub fn payment(name: &str, value: &RawValue) -> Result<Payment, HttpError> {
    let number = whole_number(name, value, 1)?;
    Payment::new(number).ok_or_else(|| HttpError::not_in_range(name, 1, i64::MAX))
}

/// A reference, or a sentence that says what it must be.
pub fn reference(value: &RawValue) -> Result<Reference, HttpError> {
    let reference = string(value).and_then(|text| Reference::new(&text));
    reference.ok_or_else(|| HttpError::bad_request(REFERENCE_RULE))
}

/// A key as a member, or a sentence that says what it must be.
pub(super) fn key(value: &RawValue) -> Result<Key, HttpError> {
    let key = string(value).and_then(|text| Key::new(&text));
    key.ok_or_else(|| HttpError::bad_request(KEY_RULE))
}

/// The text of a JSON string; `None` for another type or for half a surrogate pair.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))?;
    // Without an escape, the text stands there as it is: the JSON was checked before.
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(value.get()).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<[Option<String>; 2], String> {
        members(text.as_bytes(), ["userId", "amount"])
            .map(|found| found.map(|value| value.map(|raw| raw.get().to_owned())))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn members_come_in_the_order_of_the_names_and_null_counts_as_missing() {
        let found = parse(r#" {"amount": -2, "userId": 1} "#).unwrap();
        assert_eq!(found, [Some("1".into()), Some("-2".into())]);
        assert_eq!(parse(r#"{"userId":null}"#).unwrap(), [None, None]);
    }

    #[test]
    fn any_other_json_value_is_refused_as_no_object() {
        for text in ["[1,-5]", "1", "-1", "1.5", "\"x\"", "true", "null", "[[],{}]"] {
            assert_eq!(
                parse(text).unwrap_err(),
                "The request body must be a JSON object with userId, amount",
                "{text}"
            );
        }
    }

    #[test]
    fn invalid_json_is_refused_with_its_position() {
        for text in ["", "{", "{\"userId\":1,}", "{} x", "{}{}", "\u{0}", "[1,", "{\"a\":01}"] {
            let sentence = parse(text).unwrap_err();
            assert!(sentence.starts_with("The request body is not valid JSON: "), "{sentence}");
        }
        let no_text = members(b"{\"userId\":\"\xff\"}", ["userId"]).unwrap_err().to_string();
        assert!(no_text.starts_with("The request body is not valid JSON: "), "{no_text}");
    }

    #[test]
    fn unknown_and_repeated_members_are_named() {
        assert_eq!(
            parse(r#"{"userId":1,"amount":1,"currency":"EUR"}"#).unwrap_err(),
            "Unknown member \"currency\"; the request body may have userId, amount"
        );
        assert_eq!(
            parse(r#"{"amount":1,"amount":null}"#).unwrap_err(),
            "amount must not be given twice"
        );
    }

    #[test]
    fn only_whole_numbers_in_range_are_amounts() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        for (text, value) in [("-0", 0), ("9223372036854775807", i64::MAX), ("-2", -2)] {
            assert_eq!(amount(&raw(text)).unwrap().get(), value);
        }
        for text in ["1.0", "1e3", "\"1\"", "true", "[1]", "-9223372036854775808", "1e400"] {
            assert_eq!(
                amount(&raw(text)).unwrap_err().to_string(),
                "amount must be a whole number from -9223372036854775807 to 9223372036854775807",
                "{text}"
            );
        }
    }
}
