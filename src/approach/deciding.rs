//! Decide in Rust on what was read, and write it: what the approaches that read first share.

use sqlx::{PgConnection, Postgres, Transaction};

use crate::balance::{Change, ChangeError, Decision, Outcome, decide};
use crate::store::error::Sent;
use crate::store::idempotency::{self, Seen};
use crate::store::journal;
use crate::store::retry::Failure;

/// A decision that is carried out.
pub(super) struct Settled {
    outcome: Outcome,
    wrote: bool,
}

/// Replays what the key was used for, or decides; and writes what came of it, under the condition
/// that the row still has the version that was seen. `sent` says whether a statement commits by
/// itself here.
///
/// # Errors
/// [`Failure::LostRace`] where another change came in between; then nothing was written.
pub(super) async fn settle(
    connection: &mut PgConnection,
    change: &Change,
    seen: Seen,
    sent: Sent,
) -> Result<Settled, Failure> {
    if let Some(prior) = seen.prior {
        return Ok(Settled { outcome: prior.replay(change.amount)?, wrote: false });
    }
    let failed = |error| Failure::from_database(error, sent);
    let decision = decide(seen.balance, change.amount)?;
    let wrote = match decision {
        Decision::Accepted(after) if !change.amount.is_zero() => {
            let written = journal::write(connection, change, after, seen.version).await;
            if !written.map_err(failed)? {
                let lost = "another change came first, every time".into();
                return Err(Failure::LostRace(ChangeError::NotApplied(lost)));
            }
            true
        }
        Decision::Accepted(_) | Decision::Refused => {
            idempotency::keep(connection, change, decision).await.map_err(failed)?
        }
    };
    Ok(Settled { outcome: Outcome::fresh(decision), wrote })
}

impl Settled {
    /// Where each statement has committed by itself.
    pub(super) fn outcome(self) -> Outcome {
        self.outcome
    }

    /// Ends the transaction, and with it its locks, before the client has its answer. What wrote
    /// nothing is rolled back: then a connection that is lost meanwhile leaves nothing unknown.
    pub(super) async fn end(
        self,
        transaction: Transaction<'_, Postgres>,
    ) -> Result<Outcome, Failure> {
        if self.wrote {
            transaction.commit().await.map_err(Failure::at_commit)?;
        } else {
            transaction.rollback().await.map_err(Failure::before_commit)?;
        }
        Ok(self.outcome)
    }
}
