//! `optimistic-locking`: read, decide, write if nothing changed meanwhile.
//!
//! # Protocol
//! 1. `SELECT balance, held, version` (and the key), without a lock
//! 2. decide, in Rust
//! 3. `UPDATE … WHERE version = $read`, with the journal row and the key in the same statement. A
//!    refusal writes only the key, and without a key nothing.
//!
//! Two round trips an attempt. If step 3 finds another version, it has written nothing, and the next
//! attempt begins with step 1.
//!
//! # Why it is exact
//! `version` grows with every operation on the user, through every approach. Step 3 compares and
//! writes in one statement under the row's lock. So it only writes if the balance is still the one
//! that was decided on. A refusal is true at the moment of step 1. A key that was used after step 1
//! violates the primary key in step 3, which rolls everything back. Order of locks: the user's row,
//! then the key.
//!
//! # Admission
//! Of any number of changes that read the same version, one wins and all others have worked in vain.
//! So a process admits only one change of a user to its attempts at a time, and the others queue in
//! order of arrival ([`Admitted`](super::pooled::Admitted)): 10,000 at once need 10,000 attempts, not
//! 10,000² / 2. What remains are races against other processes and other approaches. While these keep
//! the row busy without a pause, a compare-and-swap hardly ever wins. So the attempts go on for a long
//! time with growing pauses, without a session during a pause. When the time is over, the answer is
//! "not applied", never "insufficient funds".
//!
//! # When the process dies
//! Before the server has the statement of step 3: nothing happened. After that it is one
//! transaction, applied in full or not at all. Only the answer is lost.
//!
//! # When it loses
//! On a hot row that others change as well. It is at home where the same user is rarely changed
//! twice at once, and where the decision takes longer than a lock should be held.
//!
//! A change of zero with a key goes this way behind every approach: it reads, and stores what it read.

use sqlx::PgConnection;

use super::pooled::{LONG_RACE, Pooled};
use super::read_then_write::{Decided, UNLOCKED, decide_and_write, load};
use crate::ledger::{Change, Outcome};
use crate::store::error::Failure;
use crate::store::retry::Policy;

#[derive(Default)]
pub(super) struct OptimisticLocking;

impl Pooled for OptimisticLocking {
    const POLICY: Policy = LONG_RACE;

    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        let loaded = load(connection, change, &UNLOCKED).await?;
        let decided = decide_and_write(connection, change, loaded, Failure::at_commit).await;
        decided.map(Decided::outcome)
    }
}
