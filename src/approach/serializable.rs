//! `serializable`: the plain transaction, and the database finds the conflicts.
//!
//! # Protocol
//! 1. `BEGIN ISOLATION LEVEL SERIALIZABLE`
//! 2. `SELECT balance, held, version` (and the key), without a lock
//! 3. decide, in Rust
//! 4. `UPDATE … WHERE version = $read`, with the journal row and the key in the same statement. A
//!    refusal writes only the key, and without a key nothing.
//! 5. `COMMIT`, or `ROLLBACK` where nothing was written
//!
//! Four round trips an attempt.
//!
//! # Why it is exact
//! At this level a statement that would overwrite a change which its snapshot does not have fails
//! with `serialization_failure` (40001). Everything is rolled back and attempted again. That alone
//! would do, but SERIALIZABLE has had real anomalies (Jepsen on PostgreSQL 12.3). So step 4 compares
//! the version as well, and the check constraint stands behind it: the guard is the statement, never
//! the isolation level alone. A refusal is true at the moment of step 2.
//!
//! # Admission
//! As for [`optimistic`](super::optimistic): one change of a user at a time in this process, and
//! long, patient retries against all others.
//!
//! # When the process dies
//! Before the server has the `COMMIT`: rolled back. After that: applied, and only the answer is lost.
//!
//! # When it loses
//! Against every other approach on a hot row. It earns its keep where a decision reads more rows than
//! it writes, and no lock could be named.

use sqlx::{Connection, PgConnection};

use super::pooled::{LONG_RACE, Pooled};
use super::read_then_write::{UNLOCKED, decide_and_write, end, load};
use crate::ledger::{Change, Outcome};
use crate::store::error::Failure;
use crate::store::retry::Policy;

#[derive(Default)]
pub(super) struct Serializable;

impl Pooled for Serializable {
    const POLICY: Policy = LONG_RACE;

    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        let mut transaction = connection
            .begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE")
            .await
            .map_err(Failure::before_commit)?;
        let decided = match load(&mut transaction, change, &UNLOCKED).await {
            Ok(loaded) => {
                decide_and_write(&mut transaction, change, loaded, Failure::before_commit).await
            }
            Err(failure) => Err(failure),
        };
        end(transaction, decided).await
    }
}
