//! `optimistic-locking`: read, decide, write if nothing changed meanwhile.
//!
//! # Protocol
//! 1. `SELECT balance, version` (and the key), without a lock
//! 2. decide, in Rust
//! 3. `UPDATE … WHERE version = $read`, with the journal row and the key in the same statement; where
//!    the change is refused, only the key, and without one nothing
//!
//! Two round trips a try. Where step 3 finds another version it has written nothing, and all begins
//! anew.
//!
//! # Why it is exact
//! `version` grows with every change of the balance, through whichever approach, and step 3 compares
//! and writes in one statement under the row's lock: so it only writes where the balance is still
//! the one that was decided on. A refusal is true at the moment of step 1. A key that was used after
//! step 1 breaks the primary key in step 3, which rolls everything back. Order of locks: the user's
//! row, then the key.
//!
//! # Admission
//! Of any number of changes that read the same version one wins and all others have worked in vain.
//! So a process lets only one change of a user into the tries at a time, the others queue in order
//! of arrival ([`Admitted`](super::pooled::Admitted)): 10,000 at once need 10,000 tries, not 10,000² / 2. What is left to
//! lose against are other processes and other approaches. While these keep the row busy without a
//! pause, a compare-and-swap hardly ever wins; so the tries go on for a long time with growing
//! pauses, without a connection during the pause, and when they run out the answer is "not applied",
//! never "insufficient funds".
//!
//! # When the process dies
//! Before the server has the statement of step 3: nothing happened. After that it is one
//! transaction, there in full or not at all; only the answer is lost.
//!
//! # When it loses
//! On a hot row that others change as well. It is at home where the same user is rarely changed
//! twice at once, and where the decision takes longer than one would hold a lock.

use sqlx::PgConnection;

use super::deciding::{Decided, decide_and_write};
use super::pooled::{LONG_RACE, Pooled};
use crate::balance::{Change, Outcome};
use crate::store::error::{Failure, Sent};
use crate::store::keys::load;
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
        let loaded = load(connection, change).await?;
        decide_and_write(connection, change, loaded, Sent::Commit).await.map(Decided::outcome)
    }
}
