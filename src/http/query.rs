//! Reads the query of a request, strictly: no parameter is ignored or given twice.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::app::positive_number;
use super::error::HttpError;
use super::wire::{PAGE_DEFAULT, PAGE_MAX};

/// A parameter's value, decoded.
pub(super) type Value<'a> = Option<Cow<'a, str>>;

/// The values of a query that may have each parameter of `names` once, and no others.
///
/// `%xx` is decoded. `+` stands for itself and not for a space, which no value here may have: a time
/// such as `2026-01-31T12:00:00+01:00` is understood as it is, and where its `+` is encoded.
pub(super) fn parameters<'a, const N: usize>(
    query: Option<&'a str>,
    names: [&'static str; N],
) -> Result<[Value<'a>; N], HttpError> {
    let mut found = [const { None }; N];
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name), decoded(value));
        let Some(position) = names.iter().position(|known| *known == name) else {
            let known = listed(&names);
            let sentence = format!("Unknown parameter {name:?}; there are {known}");
            return Err(HttpError::bad_request(sentence));
        };
        if found[position].replace(value).is_some() {
            return Err(HttpError::bad_request(format!("{name} must not be given twice")));
        }
    }
    Ok(found)
}

/// Bytes that are not UTF-8 become a character that no value may have.
fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// A page of a list: at most `limit` items with numbers below `before`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) limit: i64,
    pub(super) before: i64,
}

impl Page {
    /// From the values of the parameters `limit` and `before`.
    pub(super) fn of(limit: &Value<'_>, before: &Value<'_>) -> Result<Self, HttpError> {
        let number = |name, value: &Value<'_>, most, default| match value {
            Some(text) => positive_number(name, text, most),
            None => Ok(default),
        };
        Ok(Self {
            limit: number("limit", limit, PAGE_MAX, PAGE_DEFAULT)?,
            before: number("before", before, i64::MAX, i64::MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<Page, String> {
        let [limit, before] = parameters(Some(query), ["limit", "before"]).map_err(text)?;
        Page::of(&limit, &before).map_err(text)
    }

    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    fn text(error: HttpError) -> String {
        error.to_string()
    }

    #[test]
    fn a_page_has_defaults_and_bounds() {
        assert_eq!(page("").unwrap(), Page { limit: 50, before: i64::MAX });
        assert_eq!(page("before=7&limit=500").unwrap(), Page { limit: 500, before: 7 });
        assert_eq!(page("&limit=%35&").unwrap(), Page { limit: 5, before: i64::MAX });
        for (query, sentence) in [
            ("limit=0", "limit must be a whole number from 1 to 500"),
            ("limit=501", "limit must be a whole number from 1 to 500"),
            ("limit=abc", "limit must be a whole number from 1 to 500"),
            ("limit=+5", "limit must be a whole number from 1 to 500"),
            ("limit=%2B5", "limit must be a whole number from 1 to 500"),
            ("limit=5%ff", "limit must be a whole number from 1 to 500"),
            ("limit", "limit must be a whole number from 1 to 500"),
            ("before=-1", "before must be a whole number from 1 to 9223372036854775807"),
            ("limit=1&limit=1", "limit must not be given twice"),
            ("limit=1&%6cimit=1", "limit must not be given twice"),
            ("after=1", "Unknown parameter \"after\"; there are limit and before"),
        ] {
            assert_eq!(page(query).unwrap_err(), sentence, "{query}");
        }
    }

    #[test]
    fn values_are_decoded_and_known_parameters_are_listed() {
        let [at, version] =
            parameters(Some("at=2026-01-31T12%3A00%3a00%2B01:00"), ["at", "version"]).unwrap();
        assert_eq!((at.as_deref(), version), (Some("2026-01-31T12:00:00+01:00"), None));
        let [at] = parameters(Some("at=12:00+01"), ["at"]).unwrap();
        assert_eq!(at.as_deref(), Some("12:00+01"));
        assert_eq!(parameters(None, ["a"]).unwrap(), [None]);
        let unknown = parameters(Some("x"), ["a", "b", "c"]).unwrap_err().to_string();
        assert_eq!(unknown, "Unknown parameter \"x\"; there are a, b and c");
    }
}
