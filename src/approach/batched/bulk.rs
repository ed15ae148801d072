//! Many changes of one request on their way into the lanes.

use super::Lanes;
use super::core::Answer;
use crate::ledger::{Change, ChangeError};
use crate::queue::gather::Slot;
use crate::queue::lane::{Caller, Lane};

/// A change, and the slot of its answer.
pub(in crate::approach) type Slotted = (Change, Slot<Answer>);

impl Lanes {
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
}

async fn submit_share(lane: &Lane<super::ChangeEngine>, share: Vec<Slotted>) {
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
