//! Moments.

use std::fmt;

use time::OffsetDateTime;

use super::HoldPeriod;

/// A moment, in microseconds since 1970-01-01T00:00:00Z: as exact as PostgreSQL's `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
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
}
