//! The whole run: checks what can be checked beforehand, then one burst for each approach, and one
//! through all of them.

use std::sync::Arc;

use crate::account::Account;
use crate::burst::{self, Burst};
use crate::client::Client;
use crate::database::Database;
use crate::exactness::{self, Findings};
use crate::failure::Failure;
use crate::flags::{LineUp, Plan};
use crate::limits;
use crate::response_log::ResponseLog;

/// One burst, judged.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The name of the approach, or of the mix.
    pub(crate) approach: String,
    pub(crate) burst: Burst,
    /// What was read after the burst, or why nothing could be.
    pub(crate) final_balance: Result<i64, String>,
    pub(crate) findings: Findings,
}

/// All that was tested, and what ended the run before its time, if anything did.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) stopped: Option<Failure>,
}

/// What a run says in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    CouldNotRun,
}

impl Run {
    /// A run that did not get as far as its first burst.
    pub(crate) fn stopped(failure: Failure) -> Self {
        Self { outcomes: Vec::new(), stopped: Some(failure) }
    }

    /// A broken invariant is the news, even if the run could not be finished after it.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.outcomes.iter().any(|outcome| !outcome.findings.exact()) {
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
            (_, Some(failure)) => failure.exit_code(),
            (_, None) => 0,
        }
    }
}

/// Makes every burst of the plan in turn.
pub(crate) async fn run(plan: &Plan) -> Run {
    let mut run = Run::default();
    run.stopped = test_all(plan, &mut run.outcomes).await.err();
    run
}

async fn test_all(plan: &Plan, outcomes: &mut Vec<Outcome>) -> Result<(), Failure> {
    limits::make_room_for(plan.connections)?;
    let client = Arc::new(Client::reach(&plan.target, plan.authorization.clone()).await?);
    // A mistyped last approach should not show after minutes of bursts.
    for approach in &plan.approaches {
        account(&client, approach, plan).balance().await?;
    }
    let mut database = match &plan.database {
        Some(options) => Some(Database::reach(options, plan.timeout).await?),
        None => None,
    };
    let mut log = ResponseLog::create(&plan.log)?;
    for line_up in plan.line_ups() {
        let outcome = test(&client, &line_up, plan, database.as_mut()).await?;
        // The outcome first: if the log or the database fails now, what was found still counts.
        outcomes.push(outcome);
        if let Some(Outcome { burst, findings, .. }) = outcomes.last_mut() {
            log.append(line_up.name, &burst.replies)?;
            if let Some(database) = &mut database {
                findings.add_stored(&database.verify().await?);
            }
        }
    }
    Ok(())
}

/// One burst and everything that is checked about its answers.
async fn test(
    client: &Arc<Client>,
    line_up: &LineUp<'_>,
    plan: &Plan,
    database: Option<&mut Database>,
) -> Result<Outcome, Failure> {
    let account = account(client, &line_up.approaches[0], plan);
    account.set_balance(plan.terms.start).await?;
    if let Some(database) = database {
        database.expect_balance(plan.user, plan.terms.start).await?;
    }
    let burst = burst::fire(client, line_up, plan).await?;
    let final_balance = account.balance().await.map_err(|failure| failure.to_string());
    let findings = exactness::check(plan.terms, &burst.replies, &final_balance);
    Ok(Outcome { approach: line_up.name.to_owned(), burst, final_balance, findings })
}

fn account<'a>(client: &'a Client, approach: &'a str, plan: &Plan) -> Account<'a> {
    Account { client, approach, user: plan.user, timeout: plan.timeout }
}
