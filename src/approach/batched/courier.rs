//! Couriers: the answers of a batch travel to a thread together and are handed out there.
//!
//! A lane lives on another thread than the requests. To wake a task of another thread costs a lock
//! and a system call, for each of a few hundred callers of a batch. So each serving thread has a
//! courier, a task that is woken once per batch; waking the callers from there costs next to nothing.

use std::sync::{PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};

use super::core::Answer;

/// Batches of answers on their way to one thread. A thread that is so far behind gets its answers
/// handed out by the lane itself.
const INBOX: usize = 64;

/// With fewer answers the courier's own wake-up does not pay.
const LOAD_MIN: usize = 4;

/// One answer and whom it is for.
pub(super) struct Delivery {
    pub(super) to: oneshot::Sender<Answer>,
    pub(super) answer: Answer,
}

impl Delivery {
    /// A caller that hung up does not mind.
    fn hand_over(self) {
        drop(self.to.send(self.answer));
    }
}

/// Which courier: that of the thread on which a change arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CourierId(usize);

/// All couriers of a process.
#[derive(Default)]
pub(super) struct Couriers(RwLock<Vec<mpsc::Sender<Vec<Delivery>>>>);

impl Couriers {
    /// Starts one on the current runtime. It ends with the process, or with its runtime.
    pub(super) fn start(&self) -> CourierId {
        let (inbox, mut loads) = mpsc::channel::<Vec<Delivery>>(INBOX);
        tokio::spawn(async move {
            while let Some(load) = loads.recv().await {
                load.into_iter().for_each(Delivery::hand_over);
            }
        });
        let mut couriers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        couriers.push(inbox);
        CourierId(couriers.len() - 1)
    }

    fn send(&self, courier: usize, load: Vec<Delivery>) {
        let couriers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let left = match couriers.get(courier) {
            Some(inbox) if load.len() >= LOAD_MIN => match inbox.try_send(load) {
                Ok(()) => return,
                Err(
                    mpsc::error::TrySendError::Full(load) | mpsc::error::TrySendError::Closed(load),
                ) => load,
            },
            _ => load,
        };
        left.into_iter().for_each(Delivery::hand_over);
    }
}

/// Answers that are ready to go, by courier.
#[derive(Default)]
pub(super) struct Outbox(Vec<Vec<Delivery>>);

impl Outbox {
    pub(super) fn push(&mut self, courier: CourierId, delivery: Delivery) {
        if self.0.len() <= courier.0 {
            self.0.resize_with(courier.0 + 1, Vec::new);
        }
        self.0[courier.0].push(delivery);
    }

    /// Sends everything on its way.
    pub(super) fn empty(&mut self, couriers: &Couriers) {
        for (courier, load) in self.0.iter_mut().enumerate().filter(|(_, load)| !load.is_empty()) {
            couriers.send(courier, std::mem::take(load));
        }
    }
}
