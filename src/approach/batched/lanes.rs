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
use crate::queue::shares::{Holders, OfUsers};
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
    /// [`ChangeError::Busy`] when any lane has too little room, or too little for one user;
    /// [`ChangeError::NotApplied`] when the service is stopping.
    pub(in crate::approach) fn submit_all(&self, changes: Vec<Slotted>) -> Result<(), ChangeError> {
        let parts = self.by_lane(changes);
        // Until they are used, the places are given back when they are dropped.
        let places =
            self.lanes.iter().zip(&parts).map(|(lane, part)| lane.try_reserve(holders(part)));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        for (places, part) in places.into_iter().zip(parts) {
            places.send(part.into_iter().map(|(change, slot)| (change, Caller::Part(slot))));
        }
        Ok(())
    }

    /// Appends all changes to the queues of their lanes, and waits for room. Changes of one user stay
    /// in order. The changes of a lane that has ended are answered as not applied.
    ///
    /// Dropping the future leaves out the changes that have no place yet.
    pub(in crate::approach) async fn submit_streamed(&self, changes: Vec<Slotted>) {
        for (lane, part) in self.lanes.iter().zip(self.by_lane(changes)) {
            submit_part(lane, part).await;
        }
    }

    fn by_lane(&self, changes: Vec<Slotted>) -> Vec<Vec<Slotted>> {
        let mut parts: Vec<Vec<Slotted>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for change in changes {
            parts[self.index_of(change.0.user)].push(change);
        }
        parts
    }

    fn index_of(&self, user: UserId) -> usize {
        // Fibonacci hashing: neighbouring ids spread evenly, and so does every regular pattern.
        let hash = user.get().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(hash).unwrap_or(0) % self.lanes.len()
    }
}

fn holders(changes: &[Slotted]) -> Vec<Holders> {
    changes.iter().map(|(change, _)| change.holders()).collect()
}

async fn submit_part(lane: &Lane<ChangeEngine>, part: Vec<Slotted>) {
    let wanted = holders(&part);
    let mut left = part.into_iter();
    while left.len() > 0 {
        match lane.reserve_streamed(&wanted[wanted.len() - left.len()..]).await {
            Ok(places) => {
                let portion = left.by_ref().take(places.len());
                places.send(portion.map(|(change, slot)| (change, Caller::Streamed(slot))));
            }
            Err(error) => left.by_ref().for_each(|(_, slot)| slot.fill(Err(error.clone()))),
        }
    }
}
