//! Reads and sets the balance through the service's API: a change of 0 reads the balance, a change
//! by the difference sets it.

use std::time::Duration;

use tokio::time::timeout;

use crate::client::Client;
use crate::reply::Reply;
use crate::run_error::RunError;

/// The account under test, as one approach sees it.
pub(crate) struct Account<'a> {
    pub(crate) client: &'a Client,
    pub(crate) approach: &'a str,
    pub(crate) user: i64,
    /// The limit for each single request.
    pub(crate) timeout: Duration,
}

impl Account<'_> {
    /// Reads the balance.
    ///
    /// # Errors
    /// The error says whether the approach, the user, the token or the service is at fault.
    pub(crate) async fn balance(&self) -> Result<i64, RunError> {
        self.change(0).await
    }

    /// Sets the balance to `wanted` and reads it back.
    ///
    /// # Errors
    /// As [`Account::balance`], and [`RunError::BalanceMoved`] if the balance read differs.
    pub(crate) async fn set_balance(&self, wanted: i64) -> Result<(), RunError> {
        let moved = |found| RunError::BalanceMoved { user: self.user, wanted, found };
        let found = self.balance().await?;
        if found == wanted {
            return Ok(());
        }
        // The difference overflows only if the balance is far below zero, which is a bug of the
        // service.
        let difference = wanted.checked_sub(found).ok_or_else(|| moved(found))?;
        self.change(difference).await?;
        let found = self.balance().await?;
        if found == wanted { Ok(()) } else { Err(moved(found)) }
    }

    async fn change(&self, amount: i64) -> Result<i64, RunError> {
        let reply = self.exchange(amount).await?;
        reply.balance().ok_or_else(|| self.explain(amount, &reply))
    }

    async fn exchange(&self, amount: i64) -> Result<Reply, RunError> {
        let mut connection = self.client.open().await.map_err(|error| RunError::Unreachable {
            url: self.client.target().to_string(),
            why: error.to_string(),
        })?;
        let request = self.client.change(self.approach, self.user, amount);
        let reply = timeout(self.timeout, connection.exchange(request)).await;
        Ok(reply.unwrap_or(Reply::TimedOut))
    }

    fn explain(&self, amount: i64, reply: &Reply) -> RunError {
        let sentence = reply.sentence();
        let status = match reply {
            Reply::Answer { status, .. } => *status,
            Reply::TimedOut | Reply::ConnectionLost(_) => 0,
        };
        match status {
            401 => RunError::Unauthorized { sentence },
            404 if sentence.starts_with("Unknown approach") => {
                RunError::UnknownApproach { approach: self.approach.to_owned(), sentence }
            }
            404 if sentence.starts_with("User not found") => {
                RunError::UnknownUser { user: self.user, sentence }
            }
            _ => RunError::Unusable {
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
