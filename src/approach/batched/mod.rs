//! `batched`: all waiting changes of an account share one statement and one commit.
//!
//! With a commit per change, one row takes at most `1 / (flush + hand-over + statement)` changes a
//! second, whatever the number of clients. So changes share commits.
//!
//! # Protocol
//! A hash of its id assigns each user to a *lane*: one task with its own session and a bounded queue.
//! A state machine without I/O makes its decisions (`core.rs`). A lane takes everything that queued up
//! during the last commit, so no timer delays a lone change, and sends one statement for all of it:
//! 1. [`fold::whole`] turns each user's changes into one guard and one net amount;
//! 2. [`statement`] updates all users whose guard holds, inserts their journal rows and keys, and
//!    reads the other users from its snapshot. A change that is alone in its batch and has no key is
//!    sent with the statement of `self` instead;
//! 3. each caller's own balance is computed from the one before the batch.
//!
//! If a user's changes do not fit as a whole, [`fold::each`] decides them one by one on the balance
//! that step 2 has read. If none can be accepted, that read alone decides, and nothing is written.
//! Otherwise the same statement writes them, `WHERE version = $read`. If that loses a few races, or the
//! row keeps changing hands, the row is locked first, and then it cannot lose.
//!
//! Changes of zero only read. They are folded like the others, so each is answered with the balance at
//! its place in the order, but they have no journal row; with a key, their answer is stored. Where no
//! change of a user writes, the statement only reads.
//!
//! One round trip per batch in the common case, two where a user's batch crosses the line.
//!
//! # Why it is exact
//! Within a lane: a statement is one transaction. The guard for all of a user's changes is checked and
//! written under the row's lock, on the newest version, exactly as for `self`. The fold proves that
//! each change then fits in order of arrival; its property tests compare it with one-by-one
//! application. Refusals are decided on a read that began after the change arrived. Between lanes,
//! processes and approaches, the row decides.
//!
//! The same statement finds keys that were used before and then changes nothing; the batch is sent
//! again without those changes. A key that a concurrent request uses violates the primary key, which
//! rolls the batch back; the next attempt finds the key. A key that comes twice in a batch counts once
//! (the fold).
//!
//! Order of locks: users in order of their ids, then keys. So two processes can deadlock only over a
//! key. Then one of them reaches `lock_timeout`, is rolled back, and is sent again later.
//!
//! # One bad change never fails its neighbours
//! An unknown user updates nothing. The fold decides an overflow. A batch whose *data* the database
//! rejects is halved until the rejected change is alone.
//!
//! # One held row delays nobody else
//! A batch waits for a row for `lock_timeout` (`LOCK_WAIT_MILLIS`). Then it is rolled back, a probe
//! finds the held users, and the others continue without them. The held ones are parked, in order of
//! arrival and without a session, for at most five seconds; then the answer is 503. They are probed
//! ten times a second.
//!
//! # When the process, the session or the database dies
//! Before the statement was sent: nothing happened, 503. After that, the database applies it in full or
//! not at all. Changes without a key are answered "outcome unknown" (504). Changes with a key are sent
//! again on a new session: the key makes that safe, and the answer is the real outcome. From then on
//! only the key proves an outcome: an attempt that fails otherwise leaves it unknown. A change is
//! decided even if its caller hangs up.
//!
//! # When it loses
//! A lone client pays for one hand-over to the lane and back. Users of a lane wait for each other's
//! batches, and once for a row that another session has locked.

mod core;
mod engine;
mod fold;
mod lanes;
mod statement;

use std::sync::Arc;

use super::Approach;
use crate::ledger::{Change, ChangeError, Outcome};
use crate::queue::dispatch::DispatcherId;
use crate::store::session::BoxFuture;

pub(super) use core::Answer;
pub(super) use lanes::{Lanes, Slotted};

/// Its name in the route.
pub(super) const NAME: &str = "batched";

/// The approach: connects a thread with the lanes.
struct Batched {
    lanes: Arc<Lanes>,
    dispatcher: DispatcherId,
}

/// Builds the approach for the current thread.
pub(super) fn build(lanes: &Arc<Lanes>) -> Arc<dyn Approach> {
    let (lanes, dispatcher) = (Arc::clone(lanes), lanes.start_dispatcher());
    Arc::new(Batched { lanes, dispatcher })
}

impl Approach for Batched {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let submitted = self.lanes.submit(change, self.dispatcher);
        Box::pin(async move {
            // The lane has dropped the change, which may have been sent.
            submitted?.await.unwrap_or_else(|gone| Err(ChangeError::OutcomeUnknown(gone.into())))
        })
    }
}
