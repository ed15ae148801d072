//! Decide in Rust on what was read, and write it: what the approaches that read first share.

use sqlx::{PgConnection, Postgres, Transaction};

use crate::balance::{Change, Decision, Outcome, decide};
use crate::store::error::{Failure, Sent};
use crate::store::journal;
use crate::store::keys::{self, Loaded};

/// A decision that is carried out.
pub(super) struct Decided {
    outcome: Outcome,
    wrote: bool,
}

/// Replays what the key was used for, or decides; and writes the decision, under the condition that
/// the row still has the version that was loaded. `sent` says whether a statement commits by itself
/// here.
///
/// # Errors
/// [`Failure::Race`] where another change came in between; then nothing was written.
pub(super) async fn decide_and_write(
    connection: &mut PgConnection,
    change: &Change,
    loaded: Loaded,
    sent: Sent,
) -> Result<Decided, Failure> {
    if let Some(prior) = loaded.prior {
        return Ok(Decided { outcome: prior.replay(change.amount)?, wrote: false });
    }
    let failed = |error| Failure::new(error, sent);
    let decision = decide(loaded.balance, change.amount)?;
    let wrote = match decision {
        Decision::Accepted(after) if !change.amount.is_zero() => {
            let written = journal::write(connection, change, after, loaded.version).await;
            if !written.map_err(failed)? {
                return Err(Failure::Race("another change came first, every time".into()));
            }
            true
        }
        Decision::Accepted(_) | Decision::Refused => {
            keys::keep(connection, change, decision).await.map_err(failed)?
        }
    };
    Ok(Decided { outcome: Outcome::fresh(decision), wrote })
}

impl Decided {
    /// Where each statement has committed by itself.
    pub(super) fn outcome(self) -> Outcome {
        self.outcome
    }
}

/// Ends the transaction, and with it its locks, before the client has its answer. What wrote
/// nothing is rolled back: then a connection that is lost meanwhile leaves nothing unknown.
pub(super) async fn end(
    transaction: Transaction<'_, Postgres>,
    decided: Result<Decided, Failure>,
) -> Result<Outcome, Failure> {
    match decided {
        Ok(Decided { outcome, wrote: true }) => {
            transaction.commit().await.map_err(Failure::at_commit)?;
            Ok(outcome)
        }
        Ok(Decided { outcome, wrote: false }) => {
            transaction.rollback().await.map_err(Failure::before_commit)?;
            Ok(outcome)
        }
        Err(failure) => {
            // Dropped, it would keep its locks until the session is used again. Where this fails as
            // well, the session will not answer the question whether it can be used again.
            let _ = transaction.rollback().await;
            Err(failure)
        }
    }
}
