//! `transaction-pessimistic-locking`: lock the row, look, decide, write, commit.
//!
//! # Protocol
//! 1. `BEGIN`
//! 2. `SELECT balance … FOR UPDATE`: waits for the row lock, and holds it from here on
//! 3. decide, in Rust
//! 4. `UPDATE`, or nothing where the change is refused
//! 5. `COMMIT`, or `ROLLBACK`, which releases the lock
//!
//! Four round trips, and the lock is held for three of them.
//!
//! # Why it is exact
//! From step 2 until the end of the transaction nobody else can change the row, and under READ
//! COMMITTED step 2 returns the newest committed version, not that of an older snapshot. So the
//! balance that step 3 decides on is the balance that step 4 writes over. It holds beside the other
//! approaches, too: their statements need the same row lock.
//!
//! # When the process dies
//! Before the server has the `COMMIT`: it sees the connection end and rolls back, which frees the
//! lock; a session that hangs instead is ended by `idle_in_transaction_session_timeout`. After
//! that: the commit happens, and only the answer is lost, which is "outcome unknown".
//!
//! # When it loses
//! Always against `self`, by the round trips during which everybody else waits for the lock, and
//! most of all on refusals: these lock the row as well. It earns its keep where the decision is too
//! much for a `WHERE`.

use sqlx::{Connection, PgConnection};

use super::Pooled;
use crate::balance::{Balance, Change, ChangeError, decide};
use crate::store::error::{Sent, change_error};

#[derive(Default)]
pub(super) struct PessimisticLocking;

impl Pooled for PessimisticLocking {
    async fn apply(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Balance, ChangeError> {
        let open = |error| change_error(error, Sent::NothingFinal);
        let mut transaction = connection.begin().await.map_err(open)?;
        let before: Option<Balance> =
            sqlx::query_scalar("SELECT balance FROM users WHERE id = $1 FOR UPDATE")
                .bind(change.user.get())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(open)?;
        let decision = before
            .ok_or(ChangeError::UserNotFound)
            .and_then(|balance| decide(balance, change.amount));
        let after = match decision {
            Ok(after) => after,
            Err(refusal) => {
                // Explicitly, so that the lock is free before the client has its answer.
                transaction.rollback().await.map_err(open)?;
                return Err(refusal);
            }
        };
        sqlx::query("UPDATE users SET balance = $1, version = version + 1 WHERE id = $2")
            .bind(after)
            .bind(change.user.get())
            .execute(&mut *transaction)
            .await
            .map_err(open)?;
        transaction.commit().await.map_err(|error| change_error(error, Sent::Commit))?;
        Ok(after)
    }
}
