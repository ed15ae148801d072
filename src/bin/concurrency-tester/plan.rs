//! The validated settings of a run.

use std::path::PathBuf;
use std::slice;
use std::time::Duration;

use hyper::header::HeaderValue;
use sqlx::postgres::PgConnectOptions;

use crate::baseline::Comparand;
use crate::exactness::Terms;
use crate::operations::SCENARIOS;
use crate::target::Target;

/// The validated settings of a run: every combination of values makes sense.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) work: Work,
    /// Of each burst; of a burst of bulks, the items of all its requests.
    pub(crate) requests: usize,
    /// Between 1 and `requests`.
    pub(crate) connections: usize,
    /// The limit for connecting, for a burst, and for one request outside of a burst.
    pub(crate) timeout: Duration,
    /// Where every answer goes. `None`: nowhere.
    pub(crate) log: Option<PathBuf>,
    pub(crate) authorization: Option<HeaderValue>,
    /// The database of the service. `None`: only the answers are checked.
    pub(crate) database: Option<PgConnectOptions>,
    pub(crate) json: bool,
    /// Where the report goes as a page.
    pub(crate) page: Option<PathBuf>,
    /// Where a run that passes is saved, to compare later ones with.
    pub(crate) save_baseline: Option<PathBuf>,
    pub(crate) comparand: Option<Comparand>,
}

/// What the bursts are made of.
#[derive(Debug)]
pub(crate) enum Work {
    /// Changes of one balance through the approaches.
    Changes(Changes),
    /// Transfers, holds and bulks.
    Operations,
}

/// The same change of one balance, many times.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Each gets a burst of its own.
    pub(crate) approaches: Vec<String>,
    /// Whether one more burst goes through all of them at once.
    pub(crate) mixed: bool,
    pub(crate) user: i64,
    pub(crate) terms: Terms,
}

/// The approaches of one burst.
#[derive(Debug)]
pub(crate) struct ApproachSet<'a> {
    /// The name in the report.
    pub(crate) name: &'a str,
    /// At least one. The connections are assigned to them round-robin.
    pub(crate) approaches: &'a [String],
}

impl Work {
    /// How many bursts there are.
    pub(crate) fn bursts(&self) -> usize {
        self.names().len()
    }

    /// The name of each burst, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Changes(changes) => {
                changes.approach_sets().iter().map(|approach_set| approach_set.name).collect()
            }
            Self::Operations => SCENARIOS.iter().map(|scenario| scenario.name()).collect(),
        }
    }
}

impl Changes {
    /// One set for each burst, in order.
    pub(crate) fn approach_sets(&self) -> Vec<ApproachSet<'_>> {
        let mut approach_sets = Vec::new();
        for approach in &self.approaches {
            approach_sets
                .push(ApproachSet { name: approach, approaches: slice::from_ref(approach) });
        }
        if self.mixed {
            approach_sets.push(ApproachSet { name: "mixed", approaches: &self.approaches });
        }
        approach_sets
    }
}
