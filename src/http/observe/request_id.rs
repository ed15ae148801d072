//! The header `x-request-id`: the client's own, or one that is made here.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use axum::http::{HeaderName, HeaderValue};
use hyper::body::Bytes;

/// The name of the header, of requests and of responses.
pub(in crate::http) const NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over.
const LENGTH_MAX: usize = 128;

/// Whether an id is 1 to [`LENGTH_MAX`] visible ASCII characters. Any other is replaced, since ids stand
/// in logs and in the headers of the response.
pub(super) fn is_valid(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=LENGTH_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

thread_local! {
    /// Each thread has its own, so that no two threads share a counter.
    static IDS: Cell<Ids> = Cell::new(Ids::new());
}

/// What the next id of a thread is made of.
#[derive(Clone, Copy)]
struct Ids {
    prefix: [u8; 16],
    made: u32,
}

impl Ids {
    /// 64 random bits of the system. Not of `fastrand`, whose seed is the clock and the thread: instances
    /// that start together might share it.
    fn new() -> Self {
        let random = RandomState::new().hash_one("ids").to_be_bytes();
        let mut prefix = [0; 16];
        for (digits, byte) in prefix.chunks_exact_mut(2).zip(random) {
            digits.copy_from_slice(&hex(byte));
        }
        Self { prefix, made: 0 }
    }

    fn next(self) -> Self {
        self.made.checked_add(1).map_or_else(Self::new, |made| Self { made, ..self })
    }

    fn text(self) -> [u8; 25] {
        let mut text = [b'-'; 25];
        text[..16].copy_from_slice(&self.prefix);
        for (digits, byte) in text[17..].chunks_exact_mut(2).zip(self.made.to_be_bytes()) {
            digits.copy_from_slice(&hex(byte));
        }
        text
    }
}

/// By hand: formatting costs five times as much.
fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// A new id, unique among all instances: random bits of the thread, and a count.
pub(in crate::http) fn make() -> HeaderValue {
    let ids = IDS.get();
    IDS.set(ids.next());
    // Of exactly this length, since more would be allocated twice.
    let text = Bytes::copy_from_slice(&ids.text());
    HeaderValue::from_maybe_shared(text).expect("hexadecimal digits and a dash")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn fits(id: &[u8]) -> bool {
        is_valid(&HeaderValue::from_bytes(id).unwrap())
    }

    #[test]
    fn an_id_is_valid_where_it_is_short_and_visible() {
        let longest = "x".repeat(128);
        for id in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "~!\"{}", &longest] {
            assert!(fits(id.as_bytes()), "{id}");
        }
        let too_long = "x".repeat(129);
        let wrong: [&[u8]; 5] = [b"", b"a b", b"a\tb", b"\xe9", too_long.as_bytes()];
        for id in wrong {
            assert!(!fits(id), "{id:?}");
        }
    }

    #[test]
    fn ids_are_unique_within_a_thread_and_among_threads() {
        let thread = || (0..1_000).map(|_| make()).collect::<Vec<_>>();
        let [one, two] = [std::thread::spawn(thread), std::thread::spawn(thread)];
        let all: HashSet<_> = one.join().unwrap().into_iter().chain(two.join().unwrap()).collect();
        assert_eq!(all.len(), 2_000);
        assert!(all.iter().all(is_valid), "the service takes its own ids over");
    }

    #[test]
    fn a_count_that_is_used_up_begins_again_with_other_random_bits() {
        let last = Ids { made: u32::MAX, ..Ids::new() };
        assert!(last.text().ends_with(b"-ffffffff"));
        let next = last.next();
        assert!(next.text().ends_with(b"-00000000"));
        assert_ne!(next.prefix, last.prefix);
    }
}
