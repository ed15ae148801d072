//! Reply dispatchers: the answers of a batch travel to a thread together and are delivered there.
//!
//! A lane lives on another thread than the requests. Waking a task of another thread costs a lock and
//! a system call, for each of a few hundred callers of a batch. So each serving thread has a
//! dispatcher, a task that is woken once per batch. It wakes the callers from there, which costs next
//! to nothing.

use std::sync::{PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};

/// Batches of answers on their way to one thread. If a thread is so far behind, the lane delivers its
/// answers itself.
const QUEUE_MAX: usize = 64;

/// With fewer answers, waking the dispatcher costs more than it saves.
const DISPATCH_MIN: usize = 4;

/// One answer and its receiver.
pub(super) struct Delivery<A> {
    pub(super) to: oneshot::Sender<A>,
    pub(super) answer: A,
}

impl<A> Delivery<A> {
    /// A caller that hung up is no error.
    fn deliver(self) {
        drop(self.to.send(self.answer));
    }
}

/// The dispatcher of the thread on which a change arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DispatcherId(usize);

/// All dispatchers of a process for one type of answers.
pub(crate) struct Dispatchers<A>(RwLock<Vec<Dispatcher<A>>>);

type Dispatcher<A> = mpsc::Sender<Vec<Delivery<A>>>;

// By hand: the answers need no default.
impl<A> Default for Dispatchers<A> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<A: Send + 'static> Dispatchers<A> {
    /// Starts one on the current runtime. It ends with the process, or with its runtime.
    pub(crate) fn start(&self) -> DispatcherId {
        let (queue, mut batches) = mpsc::channel::<Vec<Delivery<A>>>(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(batch) = batches.recv().await {
                batch.into_iter().for_each(Delivery::deliver);
            }
        });
        let mut dispatchers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        dispatchers.push(queue);
        DispatcherId(dispatchers.len() - 1)
    }

    fn send(&self, dispatcher: usize, batch: Vec<Delivery<A>>) {
        let dispatchers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let left = match dispatchers.get(dispatcher) {
            Some(queue) if batch.len() >= DISPATCH_MIN => match queue.try_send(batch) {
                Ok(()) => return,
                Err(
                    mpsc::error::TrySendError::Full(batch)
                    | mpsc::error::TrySendError::Closed(batch),
                ) => batch,
            },
            _ => batch,
        };
        left.into_iter().for_each(Delivery::deliver);
    }
}

/// Answers that are ready to be sent, by dispatcher.
pub(super) struct Outbox<A>(Vec<Vec<Delivery<A>>>);

// By hand: the answers need no default.
impl<A> Default for Outbox<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: Send + 'static> Outbox<A> {
    pub(super) fn push(&mut self, dispatcher: DispatcherId, delivery: Delivery<A>) {
        if self.0.len() <= dispatcher.0 {
            self.0.resize_with(dispatcher.0 + 1, Vec::new);
        }
        self.0[dispatcher.0].push(delivery);
    }

    /// Sends everything.
    pub(super) fn flush(&mut self, dispatchers: &Dispatchers<A>) {
        for (dispatcher, batch) in
            self.0.iter_mut().enumerate().filter(|(_, batch)| !batch.is_empty())
        {
            dispatchers.send(dispatcher, std::mem::take(batch));
        }
    }
}
