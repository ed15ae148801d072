//! Moments as the service writes them.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment in microseconds since 1970, the precision of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Micros(pub(crate) i64);

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)?;
        let micros = i64::try_from(moment.unix_timestamp_nanos() / 1_000);
        micros.map(Self).map_err(de::Error::custom)
    }
}

/// As the service writes it, so that it can be sent back.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000_000));
        let Ok(moment) = whole else { return write!(f, "{} µs", self.0) };
        let (date, time, micros) = (moment.date(), moment.time(), self.0.rem_euclid(1_000_000));
        let (hour, minute, second) = time.as_hms();
        write!(f, "{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_it_was_read() {
        for text in ["2026-11-24T20:24:55.000001Z", "1969-12-31T23:59:59.999999Z"] {
            let micros: Micros = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(micros.to_string(), text);
        }
        assert!(serde_json::from_str::<Micros>("\"2026-11-24\"").is_err());
    }
}
