//! Changes of one balance: sets the balance, makes the same change many times at once through one
//! approach or several, and checks the answers.

use std::sync::Arc;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::account::Account;
use crate::burst::{self, Requests};
use crate::client::Client;
use crate::database::Database;
use crate::exactness;
use crate::plan::{ApproachSet, Changes, Plan};
use crate::run::{CheckedBurst, Details};
use crate::run_error::RunError;

/// The tests of one run.
pub(crate) struct ChangeTests<'a> {
    pub(crate) client: &'a Arc<Client>,
    pub(crate) plan: &'a Plan,
    pub(crate) changes: &'a Changes,
}

impl ChangeTests<'_> {
    /// Checks that the service has every approach. A mistyped name must not surface only after
    /// minutes of bursts.
    pub(crate) async fn check_approaches(&self) -> Result<(), RunError> {
        for approach in &self.changes.approaches {
            self.account(approach).balance().await?;
        }
        Ok(())
    }

    /// Sets the balance, runs one burst and checks its replies.
    pub(crate) async fn test(
        &self,
        approach_set: &ApproachSet<'_>,
        database: Option<&mut Database>,
    ) -> Result<(CheckedBurst, Arc<dyn Requests>), RunError> {
        let Changes { user, terms, .. } = *self.changes;
        let account = self.account(&approach_set.approaches[0]);
        account.set_balance(terms.start).await?;
        if let Some(database) = database {
            database.expect_balance(user, terms.start).await?;
        }
        let requests: Arc<dyn Requests> = Arc::new(self.requests(approach_set));
        let burst = burst::fire(self.client, &requests, self.plan).await?;
        let final_balance = account.balance().await.map_err(|error| error.to_string());
        let findings = exactness::check(terms, &burst.replies, &final_balance);
        let details = Details::Changes { final_balance };
        let name = approach_set.name.to_owned();
        Ok((CheckedBurst { name, burst, findings, details }, requests))
    }

    fn requests(&self, approach_set: &ApproachSet<'_>) -> ChangeRequests {
        ChangeRequests {
            name: approach_set.name.to_owned(),
            approaches: approach_set.approaches.to_vec(),
            user: self.changes.user,
            amount: self.changes.terms.amount,
            count: self.plan.requests,
            connections: self.plan.connections,
        }
    }

    fn account<'a>(&'a self, approach: &'a str) -> Account<'a> {
        let user = self.changes.user;
        Account { client: self.client, approach, user, timeout: self.plan.timeout }
    }
}

/// Requests for the same change. Each connection keeps to one approach.
struct ChangeRequests {
    name: String,
    approaches: Vec<String>,
    user: i64,
    amount: i64,
    count: usize,
    connections: usize,
}

impl Requests for ChangeRequests {
    fn name(&self) -> &str {
        &self.name
    }

    fn count(&self) -> usize {
        self.count
    }

    fn request(&self, client: &Client, number: usize) -> Request<Full<Bytes>> {
        let connection = number % self.connections;
        let approach = &self.approaches[connection % self.approaches.len()];
        client.change(approach, self.user, self.amount)
    }
}
