//! One round: a stage, load all the time, faults one after another, and what is found at the end.

use std::path::PathBuf;
use std::time::Duration;

use plimsoll::verify::verify;

use super::error::FaultError;
use super::inject::Scene;
use super::kind::{Kind, Sort};
use super::log::{self, Logged};
use super::lost;
use super::making::{Making, RECOVERED_WITHIN};
use super::probe::Probe;
use super::recovery::Successes;
use super::schedule::Pace;
use super::stage::{INSTANCES, Stage};
use super::stuck::stuck_sessions;
use crate::findings::Violation;
use crate::load::{Counts, Finished, Load, LoadPlan};

/// After the last fault. An operation may meet a retry that is still waiting for the first one.
const RESOLVED_WITHIN: Duration = Duration::from_secs(90);

/// No request is answered later: 10 s for the database, as long for a hold in a queue, and some more.
const ANSWERED_WITHIN: Duration = Duration::from_secs(45);

const CLIENTS: usize = 48;
/// Enough for some to go on while the rows of others are held, and few enough for contention.
const USERS: usize = 20;
/// What a user can pay two or three times.
const BALANCE: i64 = 1 << 34;

/// What a round is made of.
#[derive(Debug, Clone)]
pub(crate) struct RoundPlan {
    pub(crate) number: usize,
    pub(crate) sort: Sort,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) first: Vec<Kind>,
    pub(crate) seed: u64,
    pub(crate) pace: Pace,
    pub(crate) lasts: Duration,
    pub(crate) per_second: u32,
    pub(crate) folder: PathBuf,
}

/// What a round has shown.
pub(crate) struct Round {
    pub(crate) number: usize,
    pub(crate) sort: Sort,
    pub(crate) seed: u64,
    pub(crate) faults: Vec<Logged>,
    pub(crate) counts: Counts,
    /// Requests whose client did not wait for the answer.
    pub(crate) hung_up: usize,
    pub(crate) violations: Vec<Violation>,
    /// What went wrong besides: an instance that does not end, or does not work again, a stuck session.
    pub(crate) wrong: Vec<String>,
    pub(crate) stuck: usize,
    /// The version of the server.
    pub(crate) postgres: String,
    /// Why the round proves nothing.
    pub(crate) not_proven: Vec<String>,
}

impl RoundPlan {
    /// Runs it to its end.
    ///
    /// # Errors
    /// The stage, not the service, has failed.
    pub(crate) async fn run(self) -> Result<Round, FaultError> {
        let stage = Stage::start(self.sort, self.folder.clone()).await?;
        let probe = Probe::start(&stage.targets()).await?;
        let load = Load::start(self.load_plan(&stage)).await;
        let load = load.map_err(|error| FaultError::new("start the load", error))?;
        let making =
            Making { plan: &self, scene: Scene { stage: &stage, load: &load }, probe: &probe };
        let mut faults = making.all().await?;
        log::say(&format!("{} requests; asking for unknown outcomes", load.counts().requests));
        let mut finished = load.finish(RESOLVED_WITHIN).await;
        let mut wrong = probe.all_work(RECOVERED_WITHIN).await;
        let mut admin = stage.databases.admin().await?;
        let stuck = stuck_sessions(&mut admin).await?;
        let postgres = sqlx::query_scalar("SHOW server_version").fetch_one(&mut admin).await?;
        let stored = Box::pin(verify(&mut admin)).await?;
        drop(admin);
        stage.end().await?;

        log::add_recoveries(&mut faults, &Successes::of(&finished.record, INSTANCES));
        wrong.extend(faults.iter().filter_map(|fault| fault.wrong.clone()));
        wrong.extend(stuck.iter().cloned());
        wrong.extend(lost::without_reason(&finished.record, &faults));
        finished.judge();
        let mut violations = std::mem::take(&mut finished.tally).into_violations();
        violations.extend(stored.violations.iter().map(Violation::stored));
        Ok(Round {
            number: self.number,
            sort: self.sort,
            seed: self.seed,
            faults,
            hung_up: lost::hung_up(&finished.record),
            violations,
            wrong,
            stuck: stuck.len(),
            postgres,
            not_proven: not_proven(&finished),
            counts: finished.counts,
        })
    }

    fn load_plan(&self, stage: &Stage) -> LoadPlan {
        LoadPlan {
            targets: stage.targets(),
            authorization: None,
            clients: CLIENTS,
            users: USERS,
            balance: BALANCE,
            seed: self.seed,
            answer_limit: ANSWERED_WITHIN,
            per_second: Some(self.per_second),
            requests_max: None,
        }
    }
}

fn not_proven(finished: &Finished) -> Vec<String> {
    let incomplete = finished.books.as_ref().err();
    let incomplete = incomplete.map(|why| format!("the final read is incomplete: {why}"));
    let count = finished.unresolved;
    let unresolved =
        (count > 0).then(|| format!("{count} operations with a key have no known outcome"));
    incomplete.into_iter().chain(unresolved).collect()
}
