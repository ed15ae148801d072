//! `transaction-pessimistic-locking`: lock the row, look, decide, write, commit.
//!
//! # Protocol
//! 1. `BEGIN`
//! 2. `SELECT balance … FOR UPDATE`: waits for the row lock, and holds it from here on; also looks
//!    up the key
//! 3. decide, in Rust
//! 4. `UPDATE` with the journal row and the key in the same statement; where the change is refused,
//!    only the key, and without one nothing
//! 5. `COMMIT`, or `ROLLBACK` where nothing was written; either releases the lock
//!
//! Four round trips, and the lock is held for three of them.
//!
//! # Why it is exact
//! From step 2 until the end of the transaction nobody else can change the row, and under READ
//! COMMITTED step 2 returns the newest committed version, not that of an older snapshot. So the
//! balance that step 3 decides on is the balance that step 4 writes over. It holds beside the other
//! approaches, too: their statements need the same row lock.
//!
//! The key is as the snapshot before the wait had it. One that was used meanwhile breaks the primary
//! key in step 4, everything is rolled back, and the next try finds it. Order of locks: the user's
//! row, then the key.
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

use super::deciding::{decide_and_write, end};
use super::pooled::Pooled;
use crate::balance::{Change, Outcome};
use crate::store::error::{Failure, Sent};
use crate::store::keys::load_and_lock;

#[derive(Default)]
pub(super) struct PessimisticLocking;

impl Pooled for PessimisticLocking {
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        let mut transaction = connection.begin().await.map_err(Failure::before_commit)?;
        let decided = match load_and_lock(&mut transaction, change).await {
            Ok(loaded) => {
                decide_and_write(&mut transaction, change, loaded, Sent::NothingFinal).await
            }
            Err(failure) => Err(failure),
        };
        end(transaction, decided).await
    }
}
