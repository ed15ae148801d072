//! Holds that a client was told of, for all clients: several try to resolve the same one.

use std::sync::{Mutex, PoisonError};

use crate::contract::books::HoldId;

/// Few, so that a hold is drawn by several clients.
const KNOWN_MAX: usize = 48;

/// A hold and its amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownHold {
    pub(super) id: HoldId,
    pub(super) of: i64,
}

/// The lock is held for a copy of a few bytes, so that no client waits for another.
#[derive(Debug, Default)]
pub(super) struct KnownHolds(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    holds: Vec<KnownHold>,
    next: usize,
}

impl KnownHolds {
    /// A new hold takes the place of the oldest.
    pub(super) fn add(&self, hold: KnownHold) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.holds.len() < KNOWN_MAX {
            ring.holds.push(hold);
            return;
        }
        let next = ring.next % KNOWN_MAX;
        ring.holds[next] = hold;
        ring.next = next + 1;
    }

    /// One of them, chosen by `random`.
    pub(super) fn any(&self, random: usize) -> Option<KnownHold> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = random.checked_rem(ring.holds.len())?;
        Some(ring.holds[position])
    }

    /// Forgets one that is resolved.
    pub(super) fn remove(&self, id: HoldId) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.holds.retain(|hold| hold.id != id);
    }
}
