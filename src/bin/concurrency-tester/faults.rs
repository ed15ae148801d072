//! `concurrency-tester faults`: breaks everything around the service, and then the service, while the load
//! of [`crate::load`] runs, and lets [`crate::witness`] judge what the clients were told.
//!
//! In reading order: [`flags`] and [`plan`] say what is run, [`kind`] lists the kinds of faults, [`schedule`]
//! draws them from the seed, [`stage`] has the processes and the [`proxy`] on each way, [`inject`] makes the
//! faults, [`round`] puts it together, [`report`] prints it.

pub(crate) mod error;
pub(crate) mod flags;
mod inject;
mod kind;
mod log;
mod lost;
mod making;
mod plan;
mod probe;
mod proxy;
mod recovery;
pub(crate) mod report;
mod round;
mod schedule;
mod stage;
mod stuck;

use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use crate::run_error::RunError;
use error::FaultError;
use flags::FaultsPlan;
use log::say;
use report::Report;
use round::{Round, RoundPlan};
use stage::folder::RunFolder;
use stage::instance;

/// Runs all rounds. Ends all processes that it has started, also if it is dropped.
///
/// # Errors
/// The faults could not be made, or SIGTERM came.
pub(crate) async fn run(plan: &FaultsPlan) -> Result<Report, RunError> {
    tokio::select! {
        report = Box::pin(rounds(plan)) => Ok(report?),
        () = terminated() => Err(RunError::Interrupted),
    }
}

async fn rounds(plan: &FaultsPlan) -> Result<Report, FaultError> {
    let started = Instant::now();
    instance::program()?;
    let (coming, not_run) = plan::rounds(plan);
    let folder = RunFolder::make(plan.keep)?;
    say(&format!("seed {}, folder {}", plan.seed, folder.path().display()));
    for (kind, why) in &not_run {
        say(&format!("NOT RUN: {kind}: {why}"));
    }
    let mut rounds: Vec<Round> = Vec::new();
    for (coming, number) in coming.into_iter().zip(1..) {
        let seed = plan.seed.wrapping_add(rounds.len().try_into().unwrap_or(0));
        let seconds = coming.lasts.as_secs();
        say(&format!("round {number}, {}, seed {seed}, {seconds} s", coming.sort));
        let round = RoundPlan {
            number,
            sort: coming.sort,
            kinds: coming.kinds,
            first: coming.first,
            seed,
            pace: plan.length.pace(),
            lasts: coming.lasts,
            per_second: plan.per_second,
            folder: folder.of_round(number)?,
        };
        rounds.push(round.run().await?);
    }
    drop(folder);
    Ok(Report { seed: plan.seed, took: started.elapsed(), rounds, not_run })
}

/// As Ctrl-C: the watchdog has time to end everything.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => {
            terminated.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
