//! Transfers, holds and bulks: makes bursts of them between users that it creates, and checks every
//! answer against the histories.
//!
//! In reading order: [`scenario`] creates the users, [`draw`] draws the requests, [`traffic`] sends them,
//! [`answers`] reads the replies, [`check`] compares them with the histories.

mod answers;
mod check;
mod draw;
mod scenario;
mod traffic;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use fastrand::Rng;

pub(crate) use check::Counts;
pub(crate) use scenario::SCENARIOS;

use crate::burst::{self, Requests};
use crate::client::Client;
use crate::contract::api::Api;
use crate::contract::books::Books;
use crate::database::Database;
use crate::plan::Plan;
use crate::reply::Reply;
use crate::run::{CheckedBurst, Details};
use crate::run_error::RunError;
use scenario::{Scenario, Stage};

/// The tests of one run.
pub(crate) struct OperationTests<'a> {
    pub(crate) client: &'a Arc<Client>,
    pub(crate) plan: &'a Plan,
}

impl OperationTests<'_> {
    /// Checks that the service is of a version that has operations.
    pub(crate) async fn check_operations(&self) -> Result<(), RunError> {
        let request = self.client.post("/transfers", "{}".to_owned());
        let reply = self.api().reply(request).await.map_err(|error| error.stops(self.client))?;
        match reply {
            Reply::Answer { status: 404 | 405, .. } => {
                Err(RunError::NoOperations { sentence: reply.sentence() })
            }
            Reply::Answer { status: 401, .. } => {
                Err(RunError::Unauthorized { sentence: reply.sentence() })
            }
            _ => Ok(()),
        }
    }

    /// Creates the users, runs one burst and checks its replies.
    pub(crate) async fn test(
        &self,
        scenario: Scenario,
        database: Option<&mut Database>,
    ) -> Result<(CheckedBurst, Arc<dyn Requests>), RunError> {
        let mut api = self.api();
        let stage = scenario.prepare(&mut api, self.plan.requests, &mut Rng::new()).await;
        let Stage { traffic, before } = stage.map_err(|error| error.stops(self.client))?;
        if let (Some(database), Some((user, state))) = (database, before.first_key_value()) {
            database.expect_balance(*user, state.balance).await?;
        }
        let traffic = Arc::new(traffic);
        let requests: Arc<dyn Requests> = Arc::<traffic::Traffic>::clone(&traffic);
        let burst = burst::fire(self.client, &requests, self.plan).await?;
        let books = Books::read(&mut api, &before, self.plan.timeout).await;
        let books = books.map_err(|error| error.to_string());
        let (findings, counts) = check::check(&traffic, &burst.replies, &burst.windows, &books);
        let details = Details::Operations(counts);
        let name = scenario.name().to_owned();
        Ok((CheckedBurst { name, burst, findings, details }, requests))
    }

    fn api(&self) -> Api<'_> {
        Api::new(self.client, self.plan.timeout)
    }
}
