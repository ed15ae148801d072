//! Reads and sets the balance, by means that any HTTP client has: a change of 0 reads, one other
//! change adjusts.

use std::time::Duration;

use tokio::time::timeout;

use crate::client::Client;
use crate::failure::Failure;
use crate::reply::Reply;

/// The account under test, as one approach sees it.
pub(crate) struct Account<'a> {
    pub(crate) client: &'a Client,
    pub(crate) approach: &'a str,
    pub(crate) user: i64,
    /// For each single request.
    pub(crate) timeout: Duration,
}

impl Account<'_> {
    /// The balance now.
    ///
    /// # Errors
    /// Says whether the approach, the user, the token or the service itself is at fault.
    pub(crate) async fn balance(&self) -> Result<i64, Failure> {
        self.change(0).await
    }

    /// Brings the balance to `wanted` and reads it back.
    ///
    /// # Errors
    /// As [`Account::balance`], and [`Failure::BalanceMoved`] if it does not stay there.
    pub(crate) async fn set_balance(&self, wanted: i64) -> Result<(), Failure> {
        let moved = |found| Failure::BalanceMoved { user: self.user, wanted, found };
        let found = self.balance().await?;
        if found == wanted {
            return Ok(());
        }
        // Only a balance far below zero has no such change, and that no service should answer.
        let difference = wanted.checked_sub(found).ok_or_else(|| moved(found))?;
        self.change(difference).await?;
        let found = self.balance().await?;
        if found == wanted { Ok(()) } else { Err(moved(found)) }
    }

    async fn change(&self, amount: i64) -> Result<i64, Failure> {
        let reply = self.exchange(amount).await?;
        reply.balance().ok_or_else(|| self.explain(amount, &reply))
    }

    async fn exchange(&self, amount: i64) -> Result<Reply, Failure> {
        let mut connection = self.client.open().await.map_err(|error| Failure::Unreachable {
            url: self.client.target().to_string(),
            why: error.to_string(),
        })?;
        let request = self.client.change(self.approach, self.user, amount);
        let reply = timeout(self.timeout, connection.exchange(request)).await;
        Ok(reply.unwrap_or(Reply::TimedOut))
    }

    fn explain(&self, amount: i64, reply: &Reply) -> Failure {
        let sentence = reply.sentence();
        let status = match reply {
            Reply::Answer { status, .. } => *status,
            Reply::TimedOut | Reply::ConnectionLost(_) => 0,
        };
        match status {
            401 => Failure::Unauthorized { sentence },
            404 if sentence.starts_with("Unknown approach") => {
                Failure::UnknownApproach { approach: self.approach.to_owned(), sentence }
            }
            404 if sentence.starts_with("User not found") => {
                Failure::UnknownUser { user: self.user, sentence }
            }
            _ => Failure::Unusable {
                url: self.client.target().to_string(),
                approach: self.approach.to_owned(),
                action: match amount {
                    0 => "reading the balance (amount 0)".to_owned(),
                    amount => format!("changing the balance by {amount}"),
                },
                reply: reply.to_string(),
            },
        }
    }
}
