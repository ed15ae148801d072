//! `concurrency-tester witness`: a random load of every operation, for as long as it is told, and then the
//! judgement. Meanwhile anybody may break what he likes.

pub(crate) mod flags;
pub(crate) mod json;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use crate::database::Database;
use crate::findings::Violation;
use crate::load::{Counts, Finished, Load, LoadPlan};
use crate::run_error::RunError;

/// The validated settings of the subcommand.
#[derive(Debug)]
pub(crate) struct WitnessPlan {
    pub(crate) load: LoadPlan,
    pub(crate) duration: Duration,
    /// How long outcomes are asked for at the end, and how long the final read may take.
    pub(crate) patience: Duration,
    /// The database of the service. `None`: only the answers are checked.
    pub(crate) database: Option<PgConnectOptions>,
    pub(crate) json: bool,
}

/// A run, judged.
#[derive(Debug)]
pub(crate) struct Witnessed {
    pub(crate) counts: Counts,
    /// How long the load took, without its end.
    pub(crate) took: Duration,
    /// How long the witness took to judge it.
    pub(crate) judging_took: Duration,
    pub(crate) violations: Vec<Violation>,
    /// Why a run without violations proves nothing. Empty: it proves something.
    pub(crate) unproven: Vec<String>,
}

/// The result in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    NotProven,
}

impl Verdict {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::NotProven => 4,
        }
    }
}

impl Witnessed {
    /// A violation is one, however much of the run could not be checked.
    pub(crate) fn verdict(&self) -> Verdict {
        if !self.violations.is_empty() {
            Verdict::Fail
        } else if !self.unproven.is_empty() {
            Verdict::NotProven
        } else {
            Verdict::Pass
        }
    }
}

/// Makes the load, ends it and judges it.
///
/// # Errors
/// The load could not begin.
pub(crate) async fn run(plan: &WitnessPlan) -> Result<Witnessed, RunError> {
    if let Some(options) = &plan.database {
        // Not kept: whoever breaks the database would cut it.
        Database::connect(options, plan.load.answer_limit).await?;
    }
    let mut load = Load::start(plan.load.clone()).await?;
    let first = load.users()[0];
    let began = Instant::now();
    load.run_for(plan.duration).await;
    let took = began.elapsed();
    let mut finished = load.finish(plan.patience).await;
    let mut unproven = Vec::new();
    let mut stored = Vec::new();
    if let Some(options) = &plan.database {
        let opening = (first, Load::opening(&plan.load, 0));
        match verify(options, opening, plan.load.answer_limit).await {
            Ok(violations) => stored = violations,
            Err(error @ RunError::OtherDatabase { .. }) => return Err(error),
            Err(error) => unproven.push(error.to_string()),
        }
    }
    unproven.extend(why_unproven(&finished));
    let judging = Instant::now();
    finished.judge();
    let judging_took = judging.elapsed();
    let mut violations = finished.tally.into_violations();
    violations.extend(stored);
    Ok(Witnessed { counts: finished.counts, took, judging_took, violations, unproven })
}

fn why_unproven(finished: &Finished) -> Vec<String> {
    let mut why = Vec::new();
    if let Err(error) = &finished.books {
        why.push(format!("the final read is incomplete: {error}"));
    }
    if finished.unresolved > 0 {
        let count = finished.unresolved;
        why.push(format!("operations with a key whose outcome stayed unknown: {count}"));
    }
    why
}

/// What `plimsoll verify` finds.
async fn verify(
    options: &PgConnectOptions,
    (user, balance): (i64, i64),
    limit: Duration,
) -> Result<Vec<Violation>, RunError> {
    let mut database = Database::connect(options, limit).await?;
    database.expect_opening(user, balance).await?;
    let report = database.verify().await?;
    Ok(report.violations.iter().map(Violation::stored).collect())
}
