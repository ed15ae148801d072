//! Moments.

use std::fmt;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::HoldPeriod;

/// A moment, in microseconds since 1970-01-01T00:00:00Z: as exact as PostgreSQL's `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From a text as in RFC 3339, with any offset. Digits beyond the microseconds are dropped, and a
    /// leap second is the last microsecond before it. `None` for another text, and for a moment that is
    /// not in the years 0 to 9999 of UTC.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        // The parser takes any separator.
        let separator = text.as_bytes().get(10)?;
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let moment = moment.checked_to_offset(UtcOffset::UTC)?;
        if !separator.eq_ignore_ascii_case(&b'T') || moment.year() < 0 {
            return None;
        }
        let micros = moment.unix_timestamp_nanos().div_euclid(1_000);
        i64::try_from(micros).ok().map(Self)
    }

    /// In microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The moment when a hold that is made now expires.
    pub const fn after(self, period: HoldPeriod) -> Self {
        Self(self.0.saturating_add(period.seconds() * 1_000_000))
    }
}

/// RFC 3339, UTC, with microseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The years from -9999 to 9999; no database clock is anywhere near their ends.
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second, micros) = moment.to_hms_micro();
        let (year, month, day) = (moment.year(), u8::from(moment.month()), moment.day());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_with_all_their_microseconds() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_798_718_399_000_001, "2026-12-31T11:59:59.000001Z"),
            (951_782_400_120_000, "2000-02-29T00:00:00.120000Z"),
        ] {
            assert_eq!(Timestamp::from_micros(micros).to_string(), text);
        }
    }

    #[test]
    fn moments_are_read_with_any_offset() {
        for (text, shown) in [
            ("2026-12-31T11:59:59.000001Z", "2026-12-31T11:59:59.000001Z"),
            ("2026-12-31T11:59:59Z", "2026-12-31T11:59:59.000000Z"),
            ("2026-12-31t11:59:59.5z", "2026-12-31T11:59:59.500000Z"),
            ("2026-12-31T23:29:59.25+11:30", "2026-12-31T11:59:59.250000Z"),
            ("2026-12-31T11:59:59-00:00", "2026-12-31T11:59:59.000000Z"),
            ("2026-12-31T20:00:00-04:00", "2027-01-01T00:00:00.000000Z"),
            ("2026-12-31T11:59:59.1234569999999Z", "2026-12-31T11:59:59.123456Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp::from_rfc3339(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_moments() {
        for text in [
            "",
            "2026-12-31",
            "2026-12-31T11:59:59",
            "2026-12-31 11:59:59Z",
            "2026-12-31+11:59:59Z",
            "2026-12-31T11:59Z",
            "2026-12-31T11:59:59.Z",
            "2026-12-31T11:59:59,5Z",
            "2026-12-31T11:59:59+0100",
            "2026-12-31T11:59:59+24:00",
            "2026-12-31T24:00:00Z",
            "2026-12-31T12:00:60Z",
            "2026-02-29T11:59:59Z",
            "2026-12-31T11:59:59Z ",
            " 2026-12-31T11:59:59Z",
            "+2026-12-31T11:59:59Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "1798718399",
            "now",
            "é026-12-31T11:59:59Z",
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }
}
