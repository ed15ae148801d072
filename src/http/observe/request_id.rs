//! The header `x-request-id`: the client's own, or one that is made here.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Bytes;

/// The name of the header, of requests and of responses.
pub(in crate::http) const NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over.
const LENGTH_MAX: usize = 128;

/// The id that the client has sent: 1 to [`LENGTH_MAX`] visible ASCII characters, once. Any other is
/// replaced, since it stands in logs and in the headers of the response.
pub(super) fn read(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(NAME)?;
    let is_single = headers.get_all(NAME).iter().nth(1).is_none();
    let bytes = value.as_bytes();
    let fits = (1..=LENGTH_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    (is_single && fits).then(|| value.clone())
}

thread_local! {
    /// A thread's own random number, and how many ids it has made. So no two threads share a counter.
    static IDS: (u64, Cell<u64>) = (RandomState::new().hash_one("ids"), Cell::new(0));
}

/// A new id, unique among all instances: 64 random bits of the system for each thread, and a count.
///
/// Not by `fastrand`, whose seed is the clock and the thread: instances that start together may share it.
pub(in crate::http) fn make() -> HeaderValue {
    let (prefix, number) = IDS.with(|(prefix, made)| (*prefix, made.replace(made.get() + 1)));
    let mut text = Vec::with_capacity(33);
    push_hex(&mut text, prefix, 16);
    text.push(b'-');
    push_hex(&mut text, number, 8);
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("hexadecimal digits")
}

/// At least so many digits. By hand: formatting costs five times as much.
fn push_hex(text: &mut Vec<u8>, number: u64, least: u32) {
    let needed = (u64::BITS - number.leading_zeros()).div_ceil(4);
    for digit in (0..needed.max(least)).rev() {
        let nibble = usize::try_from((number >> (4 * digit)) & 15).unwrap_or(0);
        text.push(b"0123456789abcdef"[nibble]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn read_all(values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_bytes(value).unwrap());
        }
        read(&headers).map(|id| id.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_id_is_taken_over_where_it_is_short_and_visible() {
        let longest = "x".repeat(128);
        for id in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "~!\"{}", &longest] {
            assert_eq!(read_all(&[id.as_bytes()]).as_deref(), Some(id));
        }
        let too_long = "x".repeat(129);
        let wrong: [&[u8]; 5] = [b"", b"a b", b"a\tb", b"\xe9", too_long.as_bytes()];
        for id in wrong {
            assert_eq!(read_all(&[id]), None, "{id:?}");
        }
        assert_eq!(read_all(&[b"a", b"a"]), None, "it is not known which one is meant");
        assert_eq!(read_all(&[]), None);
    }

    #[test]
    fn ids_are_unique_within_a_thread_and_among_threads() {
        let thread = || (0..1_000).map(|_| make()).collect::<Vec<_>>();
        let [one, two] = [std::thread::spawn(thread), std::thread::spawn(thread)];
        let all: HashSet<_> = one.join().unwrap().into_iter().chain(two.join().unwrap()).collect();
        assert_eq!(all.len(), 2_000);
        for id in all {
            let mut headers = HeaderMap::new();
            headers.insert(NAME, id);
            assert!(read(&headers).is_some(), "the service takes its own ids over");
        }
    }

    #[test]
    fn numbers_have_at_least_so_many_digits() {
        for (number, least, expected) in [
            (0, 4, "0000"),
            (0xab, 4, "00ab"),
            (0x12345, 4, "12345"),
            (u64::MAX, 1, "ffffffffffffffff"),
        ] {
            let mut text = Vec::new();
            push_hex(&mut text, number, least);
            assert_eq!(text, expected.as_bytes());
        }
    }
}
