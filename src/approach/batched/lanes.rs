//! The lanes of a process, and how changes get into them.

use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;

use super::core::Answer;
use super::engine::ChangeEngine;
use crate::ledger::{Change, ChangeError, UserId};
use crate::metrics::{LaneCounters, QueueUse};
use crate::queue::dispatch::{DispatcherId, Dispatchers};
use crate::queue::gather::Slot;
use crate::queue::lane::{self, Caller, Lane};
use crate::store::session::Connector;

/// A change, and the slot of its answer.
pub(in crate::approach) type Slotted = (Change, Slot<Answer>);

/// The lanes of a process.
pub(in crate::approach) struct Lanes {
    lanes: Box<[Lane<ChangeEngine>]>,
    dispatchers: Arc<Dispatchers<Answer>>,
    /// Taken by [`close`](Self::close).
    running: Mutex<Vec<lane::Running>>,
}

impl Lanes {
    /// Starts them on the current runtime.
    pub(in crate::approach) fn start(
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

    /// Accepts no more changes, decides the queued ones for at most `limit`, and ends the lanes.
    pub(in crate::approach) async fn close(&self, limit: Duration) {
        let mut running = self.running.lock().await;
        running.iter().for_each(lane::Running::stop);
        let deadline = Instant::now() + limit;
        for lane in running.drain(..) {
            lane.finish(deadline).await;
        }
    }

    /// How many changes wait for their batch, and how many may, in all lanes.
    pub(in crate::approach) fn queued(&self) -> QueueUse {
        self.lanes.iter().map(Lane::queued).fold(QueueUse::default(), Add::add)
    }

    /// Starts a dispatcher of answers on the current thread.
    pub(super) fn start_dispatcher(&self) -> DispatcherId {
        self.dispatchers.start()
    }

    /// Appends a change to the queue of its lane.
    pub(super) fn submit(
        &self,
        change: Change,
        dispatcher: DispatcherId,
    ) -> Result<oneshot::Receiver<Answer>, ChangeError> {
        self.lanes[self.index_of(change.user)].submit(change, dispatcher)
    }

    /// Appends all changes to the queues of their lanes, or none. Changes of one user stay in order.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when any lane has too little room, or the service is stopping.
    pub(in crate::approach) fn submit_all(&self, changes: Vec<Slotted>) -> Result<(), ChangeError> {
        let mut counts = vec![0; self.lanes.len()];
        for (change, _) in &changes {
            counts[self.index_of(change.user)] += 1;
        }
        // Until they are used, the places are given back when they are dropped.
        let places = self.lanes.iter().zip(counts).map(|(lane, count)| lane.try_reserve(count));
        let mut places = places.collect::<Result<Vec<_>, _>>()?;
        for (change, slot) in changes {
            places[self.index_of(change.user)].send(change, Caller::Part(slot));
        }
        Ok(())
    }

    /// Appends all changes to the queues of their lanes, and waits for room. Changes of one user stay
    /// in order. The changes of a lane that has ended are answered as not applied.
    ///
    /// Dropping the future leaves out the changes that have no place yet.
    pub(in crate::approach) async fn submit_streamed(&self, changes: Vec<Slotted>) {
        let mut shares: Vec<Vec<Slotted>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for change in changes {
            shares[self.index_of(change.0.user)].push(change);
        }
        for (lane, share) in self.lanes.iter().zip(shares) {
            submit_share(lane, share).await;
        }
    }

    fn index_of(&self, user: UserId) -> usize {
        // Fibonacci hashing: neighbouring ids spread evenly, and so does every regular pattern.
        let hash = user.get().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(hash).unwrap_or(0) % self.lanes.len()
    }
}

async fn submit_share(lane: &Lane<ChangeEngine>, share: Vec<Slotted>) {
    let mut left = share.into_iter();
    while left.len() > 0 {
        let count = left.len().min(lane.streamed_max());
        let reserved = lane.reserve_streamed(u32::try_from(count).unwrap_or(u32::MAX)).await;
        let portion = left.by_ref().take(count);
        match reserved {
            Ok(mut places) => {
                portion.for_each(|(change, slot)| places.send(change, Caller::Streamed(slot)));
            }
            Err(error) => portion.for_each(|(_, slot)| slot.fill(Err(error.clone()))),
        }
    }
}
