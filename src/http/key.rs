//! The header `Idempotency-Key`.
//!
//! Follows the IETF draft *The Idempotency-Key HTTP Header Field*: a structured-field string in
//! double quotes. Bare values are accepted as well, because most clients send them.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::HttpError;
use crate::ledger::Key;

/// The request's header.
pub const NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// The response's header, present on a replayed response.
pub const REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));

const RULE: &str = "Idempotency-Key must be 1 to 255 visible ASCII characters, \
                    bare or as a string in double quotes";

/// The key of a request, if it has one.
///
/// # Errors
/// A sentence with the rule of keys. A malformed key is not stored, so nothing is used up.
pub fn read(headers: &HeaderMap) -> Result<Option<Key>, HttpError> {
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(HttpError::bad_request("Idempotency-Key must not be given twice"));
    }
    let key = value.to_str().ok().and_then(unquote).and_then(|text| Key::new(&text));
    key.map(Some).ok_or_else(|| HttpError::bad_request(RULE))
}

/// The content of a quoted string, or a bare value unchanged. In a quoted string, `\` may precede
/// only `"` and `\`.
fn unquote(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\t']);
    let Some(rest) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut characters = rest.chars();
    let mut content = String::new();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(content),
            '\\' => content.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            other => content.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_bytes(value).unwrap());
        }
        read(&headers)
            .map(|key| key.map(|key| key.as_str().to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn quoted_and_bare_values_name_the_same_key() {
        assert_eq!(parse(&[b"\"8e03978e\""]), Ok(Some("8e03978e".into())));
        assert_eq!(parse(&[b"8e03978e"]), Ok(Some("8e03978e".into())));
        assert_eq!(parse(&[br#""a\"b\\c""#]), Ok(Some(r#"a"b\c"#.into())));
        assert_eq!(parse(&[]), Ok(None));
    }

    #[test]
    fn any_other_value_is_refused_with_the_rule() {
        let long = "x".repeat(256);
        let wrong: [&[u8]; 10] = [
            b"",
            b"\"\"",
            b"\"",
            b"\"open",
            b"\"a\"b",
            b"\"a\\n\"",
            b"a b",
            b"\"a b\"",
            b"\xe9",
            long.as_bytes(),
        ];
        for value in wrong {
            assert_eq!(parse(&[value]), Err(RULE.into()), "{value:?}");
        }
        assert!(parse(&["x".repeat(255).as_bytes()]).is_ok());
    }

    #[test]
    fn a_key_sent_twice_is_refused_even_where_both_are_equal() {
        assert_eq!(parse(&[b"a", b"a"]), Err("Idempotency-Key must not be given twice".into()));
    }
}
