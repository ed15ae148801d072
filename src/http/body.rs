//! Reading a request's body, strictly.
//!
//! What is not exactly right is refused with a sentence that names what is wrong and what would be
//! right. Money is never guessed: no float is rounded, no string is parsed as a number, no member
//! is ignored or given twice, and a JSON array is no object.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use futures_util::future::poll_immediate;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::error::HttpError;
use crate::balance::{Amount, UserId};

/// The longest body that is read, in bytes. A valid one is a tenth of that.
pub const BYTES_MAX: usize = 4096;

/// A body that is too long is still taken off the wire up to this many bytes, so that the client
/// gets to read the answer instead of a reset connection. The same goes for a head.
pub(super) const DRAINED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads a JSON body of at most [`BYTES_MAX`] bytes that arrives within `limit`.
pub async fn read_json(request: Request<Body>, limit: Duration) -> Result<Bytes, HttpError> {
    JsonBody::of(request)?.read(limit).await
}

/// A body that claims to be JSON, without the head that it came with: little to keep in memory
/// while it is waited for.
pub struct JsonBody(Body);

impl JsonBody {
    /// Looks at what the head says of the body.
    pub fn of(request: Request<Body>) -> Result<Self, HttpError> {
        if !claims_json(&request) {
            return Err(HttpError::NotJson);
        }
        let is_too_large = request.body().size_hint().lower() > BYTES_MAX as u64;
        if is_too_large && request.headers().contains_key(header::EXPECT) {
            // The client waits before it sends: nothing is on the wire yet.
            return Err(HttpError::BodyTooLarge);
        }
        Ok(Self(request.into_body()))
    }

    /// Reads at most [`BYTES_MAX`] bytes that arrive within `limit`.
    pub async fn read(self, limit: Duration) -> Result<Bytes, HttpError> {
        let mut collecting = pin!(collect(self.0));
        // Nearly always all of it is there already, and needs no timer.
        match poll_immediate(collecting.as_mut()).await {
            Some(collected) => collected,
            None => {
                Box::pin(timeout(limit, collecting)).await.map_err(|_| HttpError::BodyTimeout)?
            }
        }
    }
}

fn claims_json(request: &Request<Body>) -> bool {
    let mut values = request.headers().get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

async fn collect(mut body: Body) -> Result<Bytes, HttpError> {
    let mut whole = Bytes::new();
    let mut seen: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| HttpError::bad_request("The request body could not be read"))?;
        let Ok(part) = frame.into_data() else { continue };
        seen = seen.saturating_add(part.len());
        if seen > DRAINED_BYTES_MAX {
            break;
        }
        if seen <= BYTES_MAX {
            // Nearly always the first part is all there is, and nothing is copied.
            whole = if whole.is_empty() { part } else { [whole, part].concat().into() };
        }
    }
    if seen > BYTES_MAX { Err(HttpError::BodyTooLarge) } else { Ok(whole) }
}

/// Parses one JSON object with no other members than `names`, none of them twice.
///
/// Returns the members' texts in the order of `names`; `None` where one is missing or null.
pub fn members<'a, const N: usize>(
    text: &'a [u8],
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], HttpError> {
    // Once for all: the parser would check each string again.
    let text = str::from_utf8(text).map_err(not_json)?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let found = parser
        .deserialize_any(Members { names })
        .and_then(|members| parser.end().map(|()| members))
        .map_err(not_json)?;
    found.map_err(|problem| HttpError::bad_request(problem.describe(&names)))
}

/// What is wrong with an object that is JSON all the same.
enum Problem {
    NotAnObject,
    Unknown(String),
    Twice(&'static str),
}

impl Problem {
    fn describe(&self, names: &[&'static str]) -> String {
        let names = names.join(", ");
        match self {
            Self::NotAnObject => format!("The request body must be a JSON object with {names}"),
            Self::Unknown(name) => {
                format!("Unknown member {name:?}; the request body may have {names}")
            }
            Self::Twice(name) => format!("{name} must not be given twice"),
        }
    }
}

struct Members<const N: usize> {
    names: [&'static str; N],
}

/// Reads to the end even where the object is wrong, so that "not JSON at all" comes first.
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

/// A member's name, as its position among those that are known.
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

fn not_json(error: impl fmt::Display) -> HttpError {
    HttpError::bad_request(format!("The request body is not valid JSON: {error}"))
}

/// A whole number in `least ..= i64::MAX`, or a sentence that names the member.
pub fn whole_number(name: &str, value: &RawValue, least: i64) -> Result<i64, HttpError> {
    // JSON's own grammar was checked already; what i64 does not take is a fraction, an exponent,
    // another type, or too large.
    value.get().parse().ok().filter(|number| *number >= least).ok_or_else(|| {
        HttpError::bad_request(format!(
            "{name} must be a whole number from {least} to {}",
            i64::MAX
        ))
    })
}

/// A user's number, or a sentence that names where it stood.
pub fn user_id(name: &str, number: i64) -> Result<UserId, HttpError> {
    UserId::new(number).ok_or_else(|| {
        HttpError::bad_request(format!("{name} must be a whole number from 1 to {}", i64::MAX))
    })
}

/// An amount of minor units, or the sentence for it.
pub fn amount(value: &RawValue) -> Result<Amount, HttpError> {
    let number = whole_number("amount", value, -i64::MAX)?;
    Amount::new(number).ok_or_else(|| HttpError::bad_request("amount is out of range"))
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
    fn everything_that_is_no_object_is_told_so() {
        for text in ["[1,-5]", "1", "-1", "1.5", "\"x\"", "true", "null", "[[],{}]"] {
            assert_eq!(
                parse(text).unwrap_err(),
                "The request body must be a JSON object with userId, amount",
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_json_is_told_where() {
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
