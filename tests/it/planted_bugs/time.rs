//! Moments, in microseconds since 1970.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// As the contract writes it: UTC, with microseconds.
pub(super) fn rfc3339(micros: i64) -> String {
    let whole = OffsetDateTime::from_unix_timestamp(micros.div_euclid(1_000_000)).unwrap();
    let (hour, minute, second) = whole.time().as_hms();
    let micros = micros.rem_euclid(1_000_000);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z", whole.date())
}

pub(super) fn from_rfc3339(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok()
}
