//! The whole run: checks the preconditions, then tests each approach with one burst, then all of
//! them together with one more.

use std::sync::Arc;

use crate::account::Account;
use crate::burst::{self, Burst};
use crate::client::Client;
use crate::database::Database;
use crate::exactness::{self, Findings};
use crate::flags::{ApproachSet, Plan};
use crate::limits;
use crate::response_log::ResponseLog;
use crate::run_error::RunError;

/// A burst and the findings about its replies.
#[derive(Debug)]
pub(crate) struct CheckedBurst {
    /// The name of the approach, or of the mix.
    pub(crate) approach: String,
    pub(crate) burst: Burst,
    /// The balance read after the burst, or the reason why reading it failed.
    pub(crate) final_balance: Result<i64, String>,
    pub(crate) findings: Findings,
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

    pub(crate) fn exit_code(&self) -> u8 {
        match (self.verdict(), &self.stopped) {
            (Verdict::Fail, _) => 1,
            (_, Some(error)) => error.exit_code(),
            (_, None) => 0,
        }
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
    let client = Arc::new(Client::resolve(&plan.target, plan.authorization.clone()).await?);
    // A mistyped name must not surface only after minutes of bursts.
    for approach in &plan.approaches {
        account(&client, approach, plan).balance().await?;
    }
    let mut database = match &plan.database {
        Some(options) => Some(Database::connect(options, plan.timeout).await?),
        None => None,
    };
    let mut log = ResponseLog::create(&plan.log)?;
    for approach_set in plan.approach_sets() {
        let checked = test(&client, &approach_set, plan, database.as_mut()).await?;
        // Stored first: its findings must count even if the log or the database fails now.
        bursts.push(checked);
        if let Some(CheckedBurst { burst, findings, .. }) = bursts.last_mut() {
            log.append(approach_set.name, &burst.replies)?;
            if let Some(database) = &mut database {
                findings.add_stored(&database.verify().await?);
            }
        }
    }
    Ok(())
}

/// Sets the balance, runs one burst and checks its replies.
async fn test(
    client: &Arc<Client>,
    approach_set: &ApproachSet<'_>,
    plan: &Plan,
    database: Option<&mut Database>,
) -> Result<CheckedBurst, RunError> {
    let account = account(client, &approach_set.approaches[0], plan);
    account.set_balance(plan.terms.start).await?;
    if let Some(database) = database {
        database.expect_balance(plan.user, plan.terms.start).await?;
    }
    let burst = burst::fire(client, approach_set, plan).await?;
    let final_balance = account.balance().await.map_err(|error| error.to_string());
    let findings = exactness::check(plan.terms, &burst.replies, &final_balance);
    Ok(CheckedBurst { approach: approach_set.name.to_owned(), burst, final_balance, findings })
}

fn account<'a>(client: &'a Client, approach: &'a str, plan: &Plan) -> Account<'a> {
    Account { client, approach, user: plan.user, timeout: plan.timeout }
}
