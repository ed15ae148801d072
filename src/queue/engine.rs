//! What a lane serves its queue with.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::dispatch::DispatcherId;
use super::gather::Slot;
use super::shares::OfUsers;
use crate::store::session::Connector;

/// Time since a lane was started.
pub(crate) type Time = Duration;

/// What a lane does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send a request. `accepted` pieces of work left the queue for it; none where it continues an
    /// earlier batch.
    Send {
        /// How many.
        accepted: usize,
    },
    /// Wait until work arrives or this time has come.
    Wait {
        /// None: until work arrives.
        until: Option<Time>,
    },
}

/// What serves the work of a lane.
pub(crate) trait Engine: Sized + Send + 'static {
    /// What waits in the queue.
    type Work: OfUsers + Send + 'static;
    /// The answer to each piece of it.
    type Answer: Send + Sync + 'static;

    /// An engine with a session of its own. At most `parked_max` pieces of work may wait in it apart
    /// from the batches.
    fn new(connector: Connector, parked_max: usize) -> Self;

    /// Takes work from the queue, for the next batch.
    fn arrive(&mut self, work: Self::Work, caller: Caller<Self::Answer>);

    /// How much more the next batch can take.
    fn room(&self) -> usize;

    /// How much waits for the next batch.
    fn arrived(&self) -> usize;

    /// Makes it wait for nothing any more.
    fn stop(&mut self);

    /// The next step. [`serve`](Self::serve) must follow a [`Step::Send`].
    fn next(&mut self, now: Time) -> Step;

    /// Sends the request of the last [`Step::Send`], and decides on its result. The lane was started at
    /// that moment.
    fn serve(&mut self, started: Instant) -> impl Future<Output = ()> + Send;

    /// The new answers since the last call. Each caller is answered once.
    fn take_answers(&mut self) -> impl Iterator<Item = (Caller<Self::Answer>, Self::Answer)>;

    /// How much work was sent again since the last call.
    fn take_retries(&mut self) -> u64;
}

/// The receiver of an answer.
pub(crate) enum Caller<A> {
    /// A request with one piece of work.
    One {
        /// Its task.
        to: oneshot::Sender<A>,
        /// The dispatcher of its thread.
        dispatcher: DispatcherId,
    },
    /// A request with many pieces of work.
    Part(Slot<A>),
    /// A stream of work, which has waited for its place.
    Streamed(Slot<A>),
}

/// Work on its way into a lane.
pub(super) struct Arrival<E: Engine> {
    pub(super) work: E::Work,
    pub(super) caller: Caller<E::Answer>,
    /// When it was queued. That of the machine: no test moves it.
    pub(super) at: std::time::Instant,
}

impl<E: Engine> Arrival<E> {
    /// Work that is queued now.
    pub(super) fn now(work: E::Work, caller: Caller<E::Answer>) -> Self {
        Self { work, caller, at: std::time::Instant::now() }
    }
}
