//! The result of one request: an answer, or the reason why there is none.

use std::borrow::Cow;
use std::fmt;

/// The whole body of a refusal, byte for byte.
pub(crate) const REFUSAL: &[u8] = br#"{"error":"Insufficient funds"}"#;

/// The result of one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    /// A whole answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body as received, truncated if it is very long.
        body: Box<[u8]>,
    },
    /// The time-out passed.
    TimedOut,
    /// The connection failed before the whole answer was received. Holds the error message.
    ConnectionLost(Box<str>),
}

impl Reply {
    /// The balance of a 200 whose body is exactly `{"balance":<whole number>}`.
    pub(crate) fn balance(&self) -> Option<i64> {
        let Self::Answer { status: 200, body } = self else { return None };
        let number = body.strip_prefix(br#"{"balance":"#)?.strip_suffix(b"}")?;
        let number = std::str::from_utf8(number).ok()?;
        let balance = number.parse::<i64>().ok()?;
        // Only the canonical form of a number is valid, not "+1", "007" or "-0".
        (balance.to_string() == number).then_some(balance)
    }

    /// The sentence of an error body, or the whole body if it is not an error body.
    pub(crate) fn sentence(&self) -> String {
        #[derive(serde::Deserialize)]
        struct ErrorBody {
            error: String,
        }
        let Self::Answer { body, .. } = self else { return self.to_string() };
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) => error,
            Err(_) => printable(body),
        }
    }
}

/// One line: the status and the body, or the reason why there is no answer.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, body } => write!(f, "{status} {}", printable(body)),
            Self::TimedOut => f.write_str("no answer: the time was up"),
            Self::ConnectionLost(how) => write!(f, "no answer: {how}"),
        }
    }
}

/// The body on one line: a line break in it must not look like a new line of the log.
fn printable(body: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(body);
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8]) -> Reply {
        Reply::Answer { status, body: body.into() }
    }

    #[test]
    fn only_the_one_way_to_write_a_balance_is_a_balance() {
        assert_eq!(answer(200, br#"{"balance":9998}"#).balance(), Some(9998));
        assert_eq!(answer(200, br#"{"balance":0}"#).balance(), Some(0));
        assert_eq!(answer(200, br#"{"balance":-2}"#).balance(), Some(-2));
        for body in [
            &br#"{"balance": 9998}"#[..],
            br#"{"balance":9998} "#,
            br#"{"balance":+1}"#,
            br#"{"balance":007}"#,
            br#"{"balance":-0}"#,
            br#"{"balance":1.0}"#,
            br#"{"balance":"1"}"#,
            br#"{"balance":9223372036854775808}"#,
            br#"{"balance":1,"id":1}"#,
            br#"{"balance":}"#,
            b"",
            b"\xff",
        ] {
            assert_eq!(answer(200, body).balance(), None, "{}", printable(body));
        }
        assert_eq!(answer(201, br#"{"balance":1}"#).balance(), None);
    }

    #[test]
    fn an_answer_is_one_line_whatever_its_body() {
        let line = answer(500, b"a\r\nb\x1b[31m\xff").to_string();
        assert_eq!(line, "500 a\\r\\nb\\u{1b}[31m\u{fffd}");
    }

    #[test]
    fn a_sentence_is_taken_out_of_its_error_body() {
        assert_eq!(answer(404, br#"{"error":"User not found"}"#).sentence(), "User not found");
        assert_eq!(answer(404, b"<html>").sentence(), "<html>");
    }
}
