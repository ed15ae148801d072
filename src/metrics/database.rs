//! What the database holds, as a background task last saw it.
//!
//! A scrape never asks the database: it would wait for one that does not answer, and a metric that takes
//! a query is asked for as often as somebody likes.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

/// The age at which figures are no longer shown: three that are refreshed every 15 s were missed. A gap
/// in a graph is better than a straight line.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// How much the database holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sizes {
    /// The version of PostgreSQL.
    pub version: String,
    /// Holds that are open.
    pub open_holds: i64,
    /// How long ago the oldest open hold has expired; 0 where none has.
    pub oldest_expired_seconds: f64,
    /// Users, by the database's own estimate.
    pub users: i64,
    /// Entries of the journal, by the database's own estimate.
    pub journal_rows: i64,
    /// Idempotency keys, by the database's own estimate.
    pub keys: i64,
}

/// The state of the database. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Database(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// None before the first attempt.
    is_up: Option<bool>,
    sizes: Option<(Instant, Sizes)>,
}

impl Database {
    /// Stores what was found, or that the database did not answer.
    pub fn publish<E>(&self, found: Result<Sizes, E>) {
        let mut state = self.lock();
        state.is_up = Some(found.is_ok());
        if let Ok(sizes) = found {
            state.sizes = Some((Instant::now(), sizes));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can leave the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode_at(&self, now: Instant, mut encoder: DescriptorEncoder) -> fmt::Result {
        let state = self.lock();
        if let Some(is_up) = state.is_up {
            let help = "Whether the database answered when it was last asked, every 15 seconds";
            gauge(&mut encoder, "database_up", help, i64::from(is_up))?;
        }
        let Some((at, sizes)) = &state.sizes else { return Ok(()) };
        if now.duration_since(*at) > STALE_AFTER {
            return Ok(());
        }
        let info = Info::new([("version", sizes.version.clone())]);
        let kind = MetricType::Info;
        info.encode(encoder.encode_descriptor("database", "The PostgreSQL in use", None, kind)?)?;
        let help = "Holds that are open, exactly up to 100,000";
        gauge(&mut encoder, "holds_open", help, sizes.open_holds)?;
        let help = "How long ago the oldest open hold has expired; 0 where none has";
        let oldest = sizes.oldest_expired_seconds;
        gauge(&mut encoder, "holds_oldest_expired_seconds", help, oldest)?;
        gauge(&mut encoder, "users", "Users, an estimate of the database", sizes.users)?;
        let help = "Entries of the journal, an estimate of the database";
        gauge(&mut encoder, "journal_rows", help, sizes.journal_rows)?;
        let help = "Idempotency keys, an estimate of the database";
        gauge(&mut encoder, "idempotency_keys", help, sizes.keys)
    }
}

impl Collector for Database {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        self.encode_at(Instant::now(), encoder)
    }
}

fn gauge<N: EncodeGaugeValue + Copy>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: N,
) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    /// Shows a database as it will be after some time.
    #[derive(Debug)]
    struct Later(Database, Duration);

    impl Collector for Later {
        fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
            self.0.encode_at(Instant::now() + self.1, encoder)
        }
    }

    fn text_after(database: &Database, age: Duration) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Later(database.clone(), age)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn figures_are_shown_until_they_are_stale() {
        let database = Database::default();
        assert_eq!(text_after(&database, Duration::ZERO), "# EOF\n");
        database.publish(Ok::<_, ()>(Sizes { open_holds: 7, ..Sizes::default() }));
        assert!(text_after(&database, Duration::from_secs(50)).contains("\nholds_open 7\n"));
        database.publish(Err(()));
        let text = text_after(&database, Duration::from_secs(50));
        assert!(text.contains("\ndatabase_up 0\n") && text.contains("\nholds_open 7\n"), "{text}");
        let stale = text_after(&database, Duration::from_secs(61));
        assert!(stale.contains("\ndatabase_up 0\n") && !stale.contains("holds_open"), "{stale}");
    }
}
