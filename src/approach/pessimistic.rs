//! `transaction-pessimistic-locking`: lock the row, read, decide, write, commit.
//!
//! # Protocol
//! 1. `BEGIN`
//! 2. `SELECT balance … FOR UPDATE`: waits for the row lock and holds it from here on; also looks
//!    up the key
//! 3. decide, in Rust
//! 4. `UPDATE` with the journal row and the key in the same statement. A refusal writes only the key,
//!    and without a key nothing.
//! 5. `COMMIT`, or `ROLLBACK` where nothing was written; either releases the lock
//!
//! Four round trips, and the lock is held for three of them.
//!
//! # Why it is exact
//! From step 2 until the end of the transaction no other transaction can change the row. Under READ
//! COMMITTED step 2 returns the newest committed version, not that of an older snapshot. So the
//! balance that step 3 decides on is the balance that step 4 overwrites. This holds beside the other
//! approaches as well: their statements need the same row lock.
//!
//! The key is as the snapshot before the wait had it. A key that was used meanwhile violates the
//! primary key in step 4, everything is rolled back, and the next attempt finds it. Order of locks:
//! the user's row, then the key.
//!
//! # When the process dies
//! Before the server has the `COMMIT`: the server sees the connection end and rolls back, which frees
//! the lock. `idle_in_transaction_session_timeout` ends a session that hangs instead. After that: the
//! commit happens, and only the answer is lost, which is "outcome unknown".
//!
//! # When it loses
//! Always against `self`, by the round trips during which all others wait for the lock, and most of
//! all on refusals: these lock the row as well. It earns its keep where the decision is too much for
//! a `WHERE`.

use sqlx::{Connection, PgConnection};

use super::pooled::Pooled;
use super::read_then_write::{LOCKED, decide_and_write, end, load};
use crate::ledger::{Change, Outcome};
use crate::store::error::Failure;

#[derive(Default)]
pub(super) struct PessimisticLocking;

impl Pooled for PessimisticLocking {
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        let mut transaction = connection.begin().await.map_err(Failure::before_commit)?;
        let decided = match load(&mut transaction, change, &LOCKED).await {
            Ok(loaded) => {
                decide_and_write(&mut transaction, change, loaded, Failure::before_commit).await
            }
            Err(failure) => Err(failure),
        };
        end(transaction, decided).await
    }
}
