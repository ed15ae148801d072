//! `batched`: one statement, and one commit, carry everyone who is waiting.
//!
//! On one row a commit per change is the limit: `1 / (flush + hand-over + statement)`, whatever the
//! number of clients. So changes share commits.
//!
//! # Protocol
//! A user belongs to a *lane*, by a hash of the id. A lane is one task with a session of its own and
//! a bounded queue; what it decides, a state machine without I/O decides (`core.rs`). It takes whatever has queued up while the last batch was committing, so a
//! lone change is never delayed by a timer, and sends one statement for all of it:
//! 1. [`fold::whole`] turns each user's changes into one guard and one net amount;
//! 2. [`statement`] updates all users whose guard holds, inserts their journal rows and their keys,
//!    and reads how the others stood when it began. For a change that is alone in its batch, and
//!    has no key, this is the statement of `self`;
//! 3. each caller's own balance follows from the one before the batch.
//!
//! A user whose batch does not fit as a whole gets the exact way: [`fold::each`] decides one by one
//! on the balance that step 2 has read. Where nothing can be accepted, that read alone decides, and
//! nothing is written; otherwise the same statement writes it, `WHERE version = $read`. If that loses
//! a few races, or the row keeps changing hands, the row is locked first, and then it cannot lose.
//!
//! One round trip a batch in the common case, two where a user's batch crosses the line.
//!
//! # Why it is exact
//! Within a lane: a statement is one transaction, and the guard, for all of a user's changes at
//! once, is checked and written under the row's lock, on the newest version, exactly as for `self`.
//! The fold proves that then each change fits in order of arrival, and its property tests hold that
//! against one-by-one application. Refusals are decided on a read that began after the change
//! arrived. Beside other lanes, processes and approaches: the row decides, as always.
//!
//! A key that was used before is found by the same statement, which then does nothing at all; the
//! batch is sent again without it. One that somebody uses at this moment breaks the primary key,
//! which rolls the batch back; when it is sent again it is found. A key that comes twice in a batch
//! counts once (the fold).
//!
//! Order of locks: users in order of their ids, then keys. So two processes can deadlock only by way
//! of a key; then one of them waits in vain for `lock_timeout`, is rolled back, and goes on later.
//!
//! # One bad change never fails its neighbours
//! An unknown user updates nothing. An overflow is decided by the fold. A batch whose *data* the
//! database objects to is split in halves until the change that it objects to stands alone.
//!
//! # One held row delays nobody else
//! A batch waits for a row for `lock_timeout` (`LOCK_WAIT_MILLIS`). Then it is rolled back, one look
//! tells which users are held, and the others go on without them. The held ones wait apart, in order
//! of arrival, without a session, for five seconds at most; then it is 503. They are looked at ten
//! times a second.
//!
//! # When the process, the session or the database dies
//! Before the statement was sent: nothing happened, 503. After: the database runs it to its end or
//! not at all. Changes without a key are answered "outcome unknown" (504). Changes with a key are
//! sent again on a new session: the key makes that safe, and the answer is what really happened. From
//! then on only the key may tell: an attempt that fails otherwise leaves the outcome unknown. A
//! caller that hangs up has its change decided all the same.
//!
//! # When it loses
//! One lone client pays one hand-over to the lane and back. Users of a lane wait for each other's
//! batches, and once for a row that somebody else has locked.

mod core;
mod dispatch;
mod fold;
mod lane;
mod link;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Approach;
use crate::ledger::{Change, ChangeError, Outcome, UserId};
use crate::metrics::LaneCounters;
use crate::store::session::{BoxFuture, Connector};
use dispatch::{DispatcherId, Dispatchers};
use lane::Lane;

/// Its name in the route.
pub(super) const NAME: &str = "batched";

/// The lanes of a process.
pub(super) struct Lanes {
    lanes: Box<[Lane]>,
    dispatchers: Arc<Dispatchers>,
    /// Taken when they are told to end.
    running: Mutex<Vec<lane::Running>>,
}

impl Lanes {
    /// Starts them on the current runtime.
    pub(super) fn start(
        connector: &Connector,
        count: usize,
        queue_max: usize,
        counters: &LaneCounters,
    ) -> Self {
        let dispatchers = Arc::new(Dispatchers::default());
        let lanes = (0..count).map(|_| {
            lane::start(connector.clone(), Arc::clone(&dispatchers), queue_max, counters.clone())
        });
        let (lanes, running): (Vec<_>, Vec<_>) = lanes.unzip();
        Self { lanes: lanes.into(), dispatchers, running: Mutex::new(running) }
    }

    /// Takes nothing more, decides on what is queued, for `limit` at most, and ends.
    pub(super) async fn close(&self, limit: Duration) {
        let mut running = self.running.lock().await;
        running.iter().for_each(lane::Running::stop);
        let by = Instant::now() + limit;
        for lane in running.drain(..) {
            lane.end(by).await;
        }
    }

    /// How many changes wait for their batch.
    pub(super) fn queued(&self) -> usize {
        self.lanes.iter().map(Lane::queued).sum()
    }

    fn of(&self, user: UserId) -> &Lane {
        // Fibonacci hashing: neighbouring ids spread evenly, and so does every regular pattern.
        let hash = user.get().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let index = usize::try_from(hash).unwrap_or(0) % self.lanes.len();
        &self.lanes[index]
    }
}

/// The approach: a thread's way into the lanes, and back.
struct Batched {
    lanes: Arc<Lanes>,
    dispatcher: DispatcherId,
}

/// Builds it for the current thread.
pub(super) fn build(lanes: &Arc<Lanes>) -> Arc<dyn Approach> {
    let (lanes, dispatcher) = (Arc::clone(lanes), lanes.dispatchers.start());
    Arc::new(Batched { lanes, dispatcher })
}

impl Approach for Batched {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let submitted = self.lanes.of(change.user).submit(change, self.dispatcher);
        Box::pin(async move {
            // A lane that is gone took the change with it: nobody knows how far it came.
            submitted?.await.unwrap_or_else(|gone| Err(ChangeError::OutcomeUnknown(gone.into())))
        })
    }
}
