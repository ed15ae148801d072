//! The whole run: checks the preconditions, then makes one burst after another, and checks, logs and
//! verifies each.

use std::sync::Arc;

use crate::baseline::Compared;
use crate::burst::{Burst, Requests};
use crate::changes::ChangeTests;
use crate::client::Client;
use crate::database::Database;
use crate::findings::Findings;
use crate::limits;
use crate::operations::{self, Counts, OperationTests};
use crate::plan::{Plan, Work};
use crate::response_log::ResponseLog;
use crate::run_error::RunError;

/// A burst and the findings about its replies.
#[derive(Debug)]
pub(crate) struct CheckedBurst {
    /// The name of the approach, of the mix, or of the operations.
    pub(crate) name: String,
    pub(crate) burst: Burst,
    pub(crate) findings: Findings,
    pub(crate) details: Details,
}

/// What only one kind of burst has.
#[derive(Debug)]
pub(crate) enum Details {
    Changes {
        /// The balance read after the burst, or the reason why reading it failed.
        final_balance: Result<i64, String>,
    },
    Operations(Counts),
}

impl Details {
    /// How many operations were applied.
    pub(crate) fn applied(&self) -> usize {
        match self {
            Self::Changes { .. } => 0,
            Self::Operations(counts) => counts.applied,
        }
    }
}

/// All bursts of a run, and the error that stopped it early, if any.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) bursts: Vec<CheckedBurst>,
    pub(crate) stopped: Option<RunError>,
}

/// The result of a run in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    CouldNotRun,
}

impl Run {
    /// A run that was stopped before its first burst.
    pub(crate) fn stopped(error: RunError) -> Self {
        Self { bursts: Vec::new(), stopped: Some(error) }
    }

    /// A broken invariant decides the verdict, even if an error stopped the run afterwards.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.bursts.iter().any(|checked| !checked.findings.exact()) {
            Verdict::Fail
        } else if self.stopped.is_some() {
            Verdict::CouldNotRun
        } else {
            Verdict::Pass
        }
    }

    pub(crate) fn exit_code(&self, plan: &Plan) -> u8 {
        match (self.verdict(), &self.stopped) {
            (Verdict::Fail, _) => 1,
            (_, Some(error)) => error.exit_code(),
            (_, None) if self.compared(plan).iter().any(|compared| compared.is_worse) => 5,
            (_, None) => 0,
        }
    }

    /// Each burst beside that of the run that the plan names, if it names one.
    pub(crate) fn compared(&self, plan: &Plan) -> Vec<Compared> {
        plan.comparand.as_ref().map(|comparand| comparand.compare(self)).unwrap_or_default()
    }
}

/// Runs every burst of the plan, one after another.
pub(crate) async fn run(plan: &Plan) -> Run {
    let mut run = Run::default();
    run.stopped = test_all(plan, &mut run.bursts).await.err();
    run
}

async fn test_all(plan: &Plan, bursts: &mut Vec<CheckedBurst>) -> Result<(), RunError> {
    limits::ensure_connections_fit(plan.connections)?;
    let client = &Arc::new(Client::resolve(&plan.target, plan.authorization.clone()).await?);
    match &plan.work {
        Work::Changes(changes) => {
            let tests = ChangeTests { client, plan, changes };
            tests.check_approaches().await?;
            let mut record = Record::start(plan, bursts).await?;
            for approach_set in changes.approach_sets() {
                let (checked, sent) = tests.test(&approach_set, record.database.as_mut()).await?;
                record.add(checked, &*sent).await?;
            }
        }
        Work::Operations => {
            let tests = OperationTests { client, plan };
            tests.check_operations().await?;
            let mut record = Record::start(plan, bursts).await?;
            for scenario in operations::SCENARIOS {
                let (checked, sent) = tests.test(scenario, record.database.as_mut()).await?;
                record.add(checked, &*sent).await?;
            }
        }
    }
    Ok(())
}

/// Where each burst goes: into the run, into the log, and before the check of the database.
struct Record<'a> {
    bursts: &'a mut Vec<CheckedBurst>,
    log: ResponseLog,
    database: Option<Database>,
}

impl<'a> Record<'a> {
    async fn start(plan: &Plan, bursts: &'a mut Vec<CheckedBurst>) -> Result<Self, RunError> {
        let database = match &plan.database {
            Some(options) => Some(Database::connect(options, plan.timeout).await?),
            None => None,
        };
        Ok(Self { bursts, log: ResponseLog::create(plan.log.as_deref())?, database })
    }

    async fn add(&mut self, checked: CheckedBurst, sent: &dyn Requests) -> Result<(), RunError> {
        // Stored first: its findings must count even if the log or the database fails now.
        self.bursts.push(checked);
        if let Some(CheckedBurst { burst, findings, .. }) = self.bursts.last_mut() {
            self.log.append(sent, &burst.replies)?;
            if let Some(database) = &mut self.database {
                findings.add_stored(&database.verify().await?);
            }
        }
        Ok(())
    }
}
