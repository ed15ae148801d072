//! Makes the faults of a round, one after another or side by side.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use super::error::FaultError;
use super::inject::{Scene, Struck};
use super::log::{self, Logged};
use super::probe::Probe;
use super::round::RoundPlan;
use super::schedule::{Fault, Schedule};

/// The service works again within this time, or never.
pub(super) const RECOVERED_WITHIN: Duration = Duration::from_secs(30);

/// What the faults of a round need.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    pub(super) plan: &'a RoundPlan,
    pub(super) scene: Scene<'a>,
    pub(super) probe: &'a Probe,
}

impl Making<'_> {
    /// One after another, except for those that overlap, until the round is over.
    pub(super) async fn all(self) -> Result<Vec<Logged>, FaultError> {
        let Self { plan, scene: Scene { stage, .. }, .. } = self;
        let mut lasting = FuturesUnordered::new();
        let mut done = Vec::new();
        let end = Instant::now() + plan.lasts;
        for fault in Schedule::new(plan.seed, &plan.kinds, &plan.first, plan.pace) {
            if Instant::now() + fault.gap >= end {
                break;
            }
            beside(&mut lasting, &mut done, stage.pause(fault.gap)).await?;
            let overlaps = fault.overlaps;
            let making: LocalBoxFuture<'_, Result<Logged, FaultError>> = Box::pin(self.one(fault));
            if overlaps {
                lasting.push(making);
            } else {
                let logged = beside(&mut lasting, &mut done, making).await??;
                done.push(logged);
            }
        }
        stage.call_it_over();
        while let Some(logged) = lasting.next().await {
            done.push(logged?);
        }
        Ok(done)
    }

    /// Makes the fault and waits until the service works again.
    async fn one(self, fault: Fault) -> Result<Logged, FaultError> {
        let load = self.scene.load;
        let started = load.now();
        let struck = match self.scene.strike(&fault).await {
            Ok(struck) => struck,
            // Another fault has taken the server away just now.
            Err(FaultError::Database(error)) => return Ok(self.missed(&fault, started, &error)),
            Err(error) => return Err(error),
        };
        let Struck { target, back, mut wrong } = struck;
        let ended = load.now();
        let mut recovered_by = None;
        if back.is_some() {
            let waiting = self.probe.recovered(RECOVERED_WITHIN);
            match timeout(RECOVERED_WITHIN * 2, waiting).await {
                Ok(Ok(())) => recovered_by = Some(load.now()),
                Ok(Err(why)) => wrong = Some(format!("after {}: {why}", fault.kind)),
                Err(_) => wrong = Some(format!("after {}: no answer at all", fault.kind)),
            }
        }
        let logged = Logged {
            round: self.plan.number,
            kind: fault.kind,
            target,
            started,
            ended,
            back,
            recovered: recovered_by,
            missed: false,
            disturbed: false,
            wrong,
        };
        log::print(&logged);
        self.scene.restore(&fault).await?;
        Ok(logged)
    }

    fn missed(self, fault: &Fault, started: u64, error: &sqlx::Error) -> Logged {
        let logged = Logged {
            round: self.plan.number,
            kind: fault.kind,
            target: format!("missed: {error}"),
            started,
            ended: self.scene.load.now(),
            back: None,
            recovered: None,
            missed: true,
            disturbed: false,
            wrong: None,
        };
        log::print(&logged);
        logged
    }
}

/// Polls the faults that still last while it waits for `first`.
async fn beside<T>(
    lasting: &mut FuturesUnordered<LocalBoxFuture<'_, Result<Logged, FaultError>>>,
    done: &mut Vec<Logged>,
    first: impl Future<Output = T>,
) -> Result<T, FaultError> {
    tokio::pin!(first);
    loop {
        if lasting.is_empty() {
            return Ok(first.await);
        }
        match select(&mut first, lasting.next()).await {
            Either::Left((value, _)) => return Ok(value),
            Either::Right((logged, _)) => done.extend(logged.transpose()?),
        }
    }
}
