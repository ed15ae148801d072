//! Operations beyond a change of one balance: transfers, holds, atomic bulks. One implementation each.
//!
//! # Protocol
//! All operations of a process wait in one lane (`queue/lane.rs`): a bounded queue, and a task with
//! its own session. A batch is everything that queued up during the last commit. It is one transaction
//! (`transaction.rs`): lock the users' rows in order of their ids, read holds and keys in a later
//! statement, decide in order of arrival (`decide.rs`, a pure function), write everything in one
//! statement, commit. So everybody who waits shares the locks and the commit, and a user whom everybody
//! pays is not slower than users who share nothing.
//!
//! # Why it is exact
//! - *Nothing half-done.* Both sides of a transfer, or all changes of a bulk, are written by one statement
//!   of one transaction, whose row counts are checked before the commit.
//! - *The line.* Balances are read under the rows' locks and written before these are released. Whoever
//!   else changes such a row, an approach or another process, waits for the lock and then decides on the
//!   new balance, or has committed before the lock was granted. The check constraints stand behind it.
//! - *The order.* Operations of a batch are decided one after the other, each on the result of the ones
//!   before it. Since all rows are locked, no other order can be observed.
//! - *Once.* Keys are read under the lock of their owner's row. A key that is used concurrently elsewhere
//!   violates the primary key, which rolls the whole batch back; the next attempt finds it. A hold is
//!   written `WHERE state = 'open'` under the same lock, so it is resolved once.
//! - *Time.* The stamp of a batch is read after its rows are locked, and is not earlier than any
//!   `changed_at` among them. All of its entries have this stamp, and whether a hold has expired is
//!   decided by it. What would need the money of an expired hold is decided again after that hold was
//!   released ([`hold_expiry`](crate::store::hold_expiry)).
//!
//! Order of locks, everywhere: users by their ids, then holds, then keys. So two processes can wait for
//! each other only over a key, until one reaches `lock_timeout` and starts over.
//!
//! # One held row delays nobody else
//! A batch waits for each row for `lock_timeout`. Then it is rolled back, a probe finds the held rows, and
//! the others go on. What needs a held row waits apart, for five seconds at most (`core.rs`).
//!
//! # When the process, the session or the database dies
//! Before the commit was sent: nothing was applied. The batch is sent again on a new session, or the
//! answer is 503. After that the database has applied all of it or nothing: operations without a key are
//! answered "outcome unknown" (504), those with a key are sent again, and the key tells. An operation is
//! decided even if its caller hangs up.
//!
//! # When it loses
//! A lone client pays for six round trips instead of one. Users who share nothing still share one session:
//! a second lane would have them wait for each other's locks.

mod books;
mod bulk;
mod core;
mod decide;
mod engine;
mod hold;
mod transaction;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::ledger::{ChangeError, Key, Operation, OperationDecision, Outcome, UserId};
use crate::metrics::{Metrics, OperationCounters, QueueUse};
use crate::queue::dispatch::{DispatcherId, Dispatchers};
use crate::queue::lane::{self, Lane};
use crate::queue::local_lock::LocalLocks;
use crate::queue::shares::Shares;
use crate::store::session::Connector;
use core::Answer;
use engine::OperationEngine;

/// The most changes of atomic bulks that wait at the same time, which bounds their memory and the wait of
/// whatever is queued behind them: sixty-four of the largest, and forty-eight of one owner.
const BULK_ROWS_MAX: usize = 64_000;

/// What all threads of a service share. Clones share it.
#[derive(Clone)]
pub struct OperationLane(Arc<Parts>);

struct Parts {
    lane: Lane<OperationEngine>,
    dispatchers: Arc<Dispatchers<Answer>>,
    running: tokio::sync::Mutex<Option<lane::Running>>,
    keys: LocalLocks<(UserId, Key)>,
    key_wait: Duration,
    /// Room for the changes of atomic bulks.
    bulk_rows: Arc<Semaphore>,
    bulk_shares: Arc<Shares>,
    counters: OperationCounters,
}

/// How operations wait.
pub(crate) struct OperationOptions {
    /// How many may wait in the queue.
    pub(crate) queue_max: usize,
    /// How long one waits for another request with the same key.
    pub(crate) key_wait: Duration,
}

impl OperationLane {
    /// Starts the lane, on the current runtime and with a session of its own. The keys are those that
    /// changes wait for as well.
    pub(crate) fn start(
        connector: &Connector,
        options: &OperationOptions,
        keys: &LocalLocks<(UserId, Key)>,
        metrics: &Metrics,
    ) -> Self {
        let dispatchers = Arc::new(Dispatchers::default());
        let counters = metrics.of_operations();
        let (lane, running) = lane::start(
            connector.clone(),
            Arc::clone(&dispatchers),
            options.queue_max,
            counters.lane.clone(),
        );
        let running = tokio::sync::Mutex::new(Some(running));
        Self(Arc::new(Parts {
            lane,
            dispatchers,
            running,
            keys: keys.clone(),
            key_wait: options.key_wait,
            bulk_rows: Arc::new(Semaphore::new(BULK_ROWS_MAX)),
            bulk_shares: Arc::new(Shares::of(BULK_ROWS_MAX)),
            counters,
        }))
    }

    /// How many operations wait for a batch, and how many may.
    pub(crate) fn queued(&self) -> QueueUse {
        self.0.lane.queued()
    }

    /// Accepts no more operations, decides the queued ones for at most `limit`, and ends the lane.
    pub(crate) async fn close(&self, limit: Duration) {
        if let Some(running) = self.0.running.lock().await.take() {
            running.stop();
            running.finish(Instant::now() + limit).await;
        }
    }
}

/// Applies operations for the callers of one thread.
#[derive(Clone)]
pub struct Operations {
    shared: OperationLane,
    dispatcher: DispatcherId,
}

impl Operations {
    /// For the current thread.
    pub fn new(lane: &OperationLane) -> Self {
        Self { shared: lane.clone(), dispatcher: lane.0.dispatchers.start() }
    }

    /// Decides on an operation, and applies it where it is affordable. With a key, at most once.
    ///
    /// The future may be dropped at any time; the operation then still happens in full or not at all.
    ///
    /// # Errors
    /// Nothing was applied, except after [`ChangeError::OutcomeUnknown`].
    pub async fn apply(
        &self,
        operation: Operation,
    ) -> Result<Outcome<OperationDecision>, ChangeError> {
        let counters = self.shared.0.counters.of(&operation);
        let outcome = self.dispatch(operation).await;
        counters.count_operation(&outcome);
        outcome
    }

    async fn dispatch(
        &self,
        operation: Operation,
    ) -> Result<Outcome<OperationDecision>, ChangeError> {
        let room = self.room_for(&operation)?;
        let key = operation.key().cloned();
        if key.is_none() && room.is_none() {
            return self.submit(operation).await;
        }
        let this = self.clone();
        // In a task of its own: lock and room must last as long as the operation, not as long as the
        // client.
        let applying = tokio::spawn(async move {
            let _room = room;
            let Some(key) = key else { return this.submit(operation).await };
            let Parts { keys, key_wait, .. } = &*this.shared.0;
            let lock = keys.acquire((operation.owner(), key), *key_wait).await;
            let _lock = lock.map_err(|none| none.or(ChangeError::KeyInProgress))?;
            this.submit(operation).await
        });
        applying.await.unwrap_or_else(|panic| Err(ChangeError::OutcomeUnknown(panic.into())))
    }

    /// Room for the changes of an atomic bulk; none is needed for another operation.
    fn room_for(&self, operation: &Operation) -> Result<Option<BulkRoom>, ChangeError> {
        const FULL: ChangeError = ChangeError::Busy("too many changes of atomic bulks wait");
        let Operation::AllOrNone(all) = operation else { return Ok(None) };
        let (owner, count) = (operation.owner(), all.changes.len());
        let Parts { bulk_rows, bulk_shares, .. } = &*self.shared.0;
        if !bulk_shares.try_take_many(owner, count) {
            return Err(FULL);
        }
        let rows = u32::try_from(count).unwrap_or(u32::MAX);
        let rows = Arc::clone(bulk_rows).try_acquire_many_owned(rows).ok();
        let room = BulkRoom { shares: Arc::clone(bulk_shares), owner, count, rows };
        if room.rows.is_some() { Ok(Some(room)) } else { Err(FULL) }
    }

    async fn submit(&self, operation: Operation) -> Answer {
        let answer = self.shared.0.lane.submit(operation, self.dispatcher)?;
        // The lane has dropped the operation, which may have been sent.
        answer.await.unwrap_or_else(|gone| Err(ChangeError::OutcomeUnknown(gone.into())))
    }
}

/// Room for the changes of an atomic bulk, until it is dropped.
struct BulkRoom {
    shares: Arc<Shares>,
    owner: UserId,
    count: usize,
    /// `None` where there was too little.
    rows: Option<OwnedSemaphorePermit>,
}

impl Drop for BulkRoom {
    fn drop(&mut self) {
        self.shares.give_back_many(self.owner, self.count);
    }
}
