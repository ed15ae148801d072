//! The header `traceparent`, by the W3C recommendation *Trace Context*, version 00.
//!
//! The service takes part in a trace that a client has begun: its responses and its log carry the
//! client's trace id. It begins no trace, and exports no spans.

use axum::http::{HeaderName, HeaderValue};

/// The name of the header, of requests and of responses.
pub(in crate::http) const NAME: HeaderName = HeaderName::from_static("traceparent");

/// The length of `00-<trace id>-<parent id>-<flags>`.
const LENGTH: usize = 55;

/// The only flag of version 00: the caller may have recorded the trace. Others are not passed on.
const SAMPLED: u8 = 1;

/// A valid header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traceparent {
    trace_id: String,
    flags: u8,
}

impl Traceparent {
    /// An invalid header is ignored.
    pub(super) fn of(value: &HeaderValue) -> Option<Self> {
        Self::parse(value.to_str().ok()?)
    }

    /// Fields of a later version may follow behind a dash; those of version 00 must be all.
    fn parse(text: &str) -> Option<Self> {
        let (known, further) = text.split_at_checked(LENGTH)?;
        let mut fields = known.split('-');
        let [version, trace_id, parent_id, flags] = [2, 32, 16, 2].map(|length| {
            let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            fields.next().filter(|field| field.len() == length && field.bytes().all(is_hex))
        });
        let fits_version = match version? {
            "ff" => false,
            "00" => further.is_empty(),
            _ => further.is_empty() || further.starts_with('-'),
        };
        let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        if !fits_version || is_zero(trace_id?) || is_zero(parent_id?) {
            return None;
        }
        let flags = u8::from_str_radix(flags?, 16).ok()?;
        Some(Self { trace_id: trace_id?.to_owned(), flags })
    }

    /// The id of the trace: 32 hexadecimal digits.
    pub(super) fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The header of the response: the same trace, with this request's own id as the parent.
    pub(super) fn of_response(&self) -> HeaderValue {
        let (own, flags) = (fastrand::u64(1..), self.flags & SAMPLED);
        let text = format!("00-{}-{own:016x}-{flags:02x}", self.trace_id);
        HeaderValue::try_from(text).expect("hexadecimal digits and dashes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn parsed(text: &str) -> Option<(String, u8)> {
        Traceparent::parse(text).map(|it| (it.trace_id, it.flags))
    }

    #[test]
    fn version_00_and_what_later_versions_keep_of_it_are_understood() {
        for (start, end, flags) in [
            ("00", "01", 1),
            ("00", "00", 0),
            ("00", "ff", 255),
            ("01", "01", 1),
            ("cc", "01-what-comes-later", 1),
            ("cc", "01-", 1),
        ] {
            let text = format!("{start}-{TRACE}-{PARENT}-{end}");
            assert_eq!(parsed(&text), Some((TRACE.to_owned(), flags)), "{text}");
        }
    }

    #[test]
    fn any_other_value_is_ignored() {
        let (zero_trace, zero_parent) = ("0".repeat(32), "0".repeat(16));
        let upper = TRACE.to_uppercase();
        for text in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("01-{TRACE}-{PARENT}-01.more"),
            format!("01-{TRACE}-{PARENT}-012"),
            format!("00-{TRACE}-{PARENT}-0"),
            format!("00-{TRACE}-{PARENT}-0x"),
            format!("00-{upper}-{PARENT}-01"),
            format!("0-{TRACE}-{PARENT}-011"),
            format!("00-{zero_trace}-{PARENT}-01"),
            format!("00-{TRACE}-{zero_parent}-01"),
            format!("00_{TRACE}_{PARENT}_01"),
            format!("00-{}-{PARENT}0-01", &TRACE[1..]),
            format!(" 00-{TRACE}-{PARENT}-0"),
            format!("00-{}é-{PARENT}-01", &TRACE[2..]),
        ] {
            assert_eq!(parsed(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_response_stays_in_the_trace_with_an_id_of_its_own() {
        let sent = Traceparent::parse(&format!("00-{TRACE}-{PARENT}-ff")).unwrap();
        let value = sent.of_response();
        let text = value.to_str().unwrap();
        assert_eq!(parsed(text), Some((TRACE.to_owned(), SAMPLED)), "{text}");
        assert!(!text.contains(PARENT), "{text}");
        assert_ne!(sent.of_response(), value);
    }
}
