//! A session that serves one task only: opened when it is needed, and replaced when it is lost.

use sqlx::Executor;

use super::error::Failure;
use super::session::{Connector, Session, SessionLimits, Spent};
use crate::ledger::ChangeError;

/// A session that is opened on demand.
pub struct OwnSession {
    connector: Connector,
    /// Sent once to each new session.
    settings: &'static str,
    session: Option<Session>,
}

impl OwnSession {
    /// Does not connect yet. `settings` is a statement that each new session begins with.
    pub fn new(connector: Connector, settings: &'static str) -> Self {
        Self { connector, settings, session: None }
    }

    /// The limits of the session.
    pub fn limits(&self) -> SessionLimits {
        self.connector.limits()
    }

    /// Takes the session for a piece of work, after a check if it has rested. Opens a new one where
    /// there is none. Bounded in time.
    ///
    /// # Errors
    /// [`Failure::Unreachable`]: nothing was sent.
    pub async fn take(&mut self) -> Result<Session, Failure> {
        if let Some(mut session) = self.session.take()
            && session.check().await.is_ok()
        {
            return Ok(session);
        }
        let opened = self.connector.open().await;
        let session = opened.map_err(|error| Failure::Unreachable(error.into()))?;
        let settings = self.settings;
        let (result, spent) = session
            .run(self.connector.limits().answer, |connection| {
                Box::pin(async move {
                    let done = connection.execute(settings).await;
                    done.map_err(Failure::before_commit)
                })
            })
            .await;
        let unusable = || Failure::Unreachable("the session did not take its settings".into());
        result.map_err(|failure| Failure::Unreachable(ChangeError::from(failure).into()))?;
        match spent {
            Some(spent) => spent.recover().await.ok_or_else(unusable),
            None => Err(unusable()),
        }
    }

    /// Gives the session back after a piece of work; none if it must not be used again.
    pub async fn give_back(&mut self, spent: Option<Spent>) {
        self.session = match spent {
            Some(spent) => spent.recover().await,
            None => None,
        };
    }
}
