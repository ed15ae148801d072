//! A lane: a bounded queue, and the task that serves it batch by batch.
//!
//! A lane takes everything that queued up while it served the last batch. It knows nothing about the
//! work: an [`Engine`] decides what to send to the database, sends it, and decides on the answers.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use super::dispatch::{DispatcherId, Dispatchers};
use super::engine::Arrival;
use super::serving::{Arrivals, supervise};
use super::shares::{Holders, OfUsers, Reserved, Shares};
use crate::ledger::ChangeError;
use crate::metrics::{LaneCounters, QueueUse};
use crate::store::session::Connector;

pub(crate) use super::engine::{Caller, Engine, Step, Time};

/// The sending side of a lane's queue.
pub(crate) struct Lane<E: Engine> {
    queue: mpsc::Sender<Arrival<E>>,
    streams: Arc<Semaphore>,
    shares: Arc<Shares>,
}

/// Places in a lane's queue, for work in this order.
pub(crate) struct Places<'a, E: Engine> {
    permits: mpsc::PermitIterator<'a, Arrival<E>>,
    reserved: Reserved<'a>,
}

impl<E: Engine> Places<'_, E> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.reserved.len()
    }

    /// Appends this work to the queue; without it, all places are given back when this is dropped.
    pub(crate) fn send(self, work: impl Iterator<Item = (E::Work, Caller<E::Answer>)>) {
        let arrivals = work.map(|(work, caller)| Arrival::now(work, caller));
        self.permits.zip(arrivals).for_each(|(place, arrival)| place.send(arrival));
        self.reserved.hand_over();
    }
}

impl<E: Engine> Lane<E> {
    /// How much waits for a batch, and how much may.
    pub(crate) fn queued(&self) -> QueueUse {
        let max = self.queue.max_capacity();
        QueueUse { queued: max - self.queue.capacity(), max }
    }

    /// Appends work to the queue. Its answer is sent to the receiver.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] when the queue is full, or the user's share of it;
    /// [`ChangeError::NotApplied`] when the service is stopping.
    pub(crate) fn submit(
        &self,
        work: E::Work,
        dispatcher: DispatcherId,
    ) -> Result<oneshot::Receiver<E::Answer>, ChangeError> {
        let holders = work.holders();
        if !self.shares.try_take(holders) {
            return Err(SHARE_FULL);
        }
        let (to, answer) = oneshot::channel();
        let sent = self.queue.try_send(Arrival::now(work, Caller::One { to, dispatcher }));
        sent.map(|()| answer).map_err(|error| {
            self.shares.give_back([holders]);
            match error {
                mpsc::error::TrySendError::Full(_) => FULL,
                mpsc::error::TrySendError::Closed(_) => ended(),
            }
        })
    }

    /// Takes a place for each piece of work, without waiting.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] when there are fewer places, or a user's share is too small;
    /// [`ChangeError::NotApplied`] when the service is stopping.
    pub(crate) fn try_reserve(&self, wanted: Vec<Holders>) -> Result<Places<'_, E>, ChangeError> {
        let count = wanted.len();
        let reserved = self.shares.try_take_all(wanted).ok_or(SHARE_FULL)?;
        match self.queue.try_reserve_many(count) {
            Ok(permits) => Ok(Places { permits, reserved }),
            Err(mpsc::error::TrySendError::Full(())) => Err(FULL),
            Err(mpsc::error::TrySendError::Closed(())) => Err(ended()),
        }
    }

    /// The most places that a stream may wait for at once.
    pub(crate) fn streamed_max(&self) -> usize {
        streams_share(self.queue.max_capacity()).min(STREAMED_MAX)
    }

    /// Waits for places for the first of this work of a stream: at least one, and not more than
    /// [`streamed_max`](Self::streamed_max). Each must be used for a [`Caller::Streamed`], before
    /// anything else is awaited.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when the service is stopping.
    pub(crate) async fn reserve_streamed(
        &self,
        wanted: &[Holders],
    ) -> Result<Places<'_, E>, ChangeError> {
        let wanted = &wanted[..wanted.len().min(self.streamed_max())];
        let permits = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        loop {
            let freed = self.shares.freed();
            let streamed = self.streams.acquire_many(permits(wanted.len()));
            let mut streamed = streamed.await.map_err(|_| ended())?;
            if let Some(reserved) = self.shares.try_take_some(wanted) {
                drop(streamed.split(wanted.len() - reserved.len()));
                let permits = self.queue.reserve_many(reserved.len()).await.map_err(|_| ended())?;
                // The lane gives it back when it takes the work from the queue.
                streamed.forget();
                return Ok(Places { permits, reserved });
            }
            // Other streams must not wait for this one's user.
            drop(streamed);
            freed.await;
        }
    }
}

const FULL: ChangeError = ChangeError::Busy("the lane's queue is full");
const SHARE_FULL: ChangeError = ChangeError::Busy("the user's share of the lane's queue is full");

fn ended() -> ChangeError {
    ChangeError::NotApplied("the lane has ended".into())
}

/// Streams wait for room in the queue, so they would keep it full. They may take this much of it, and
/// the rest is for requests, which are refused when it is full.
fn streams_share(queue_max: usize) -> usize {
    (queue_max / 2).max(1)
}

/// A stream takes places in small portions: while one waits, others get none.
const STREAMED_MAX: usize = 256;

/// A lane's task.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Makes the lane accept no more work and end after what is queued.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the lane has ended. At the deadline it is aborted, and its session is closed.
    pub(crate) async fn finish(mut self, deadline: Instant) {
        match timeout_at(deadline, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => error!(%panic, "a lane panicked"),
            Err(_) => {
                warn!("a lane was still waiting for the database at the end");
                self.task.abort();
            }
        }
    }
}

/// Starts a lane on the current runtime.
pub(crate) fn start<E: Engine>(
    connector: Connector,
    dispatchers: Arc<Dispatchers<E::Answer>>,
    queue_max: usize,
    counters: LaneCounters,
) -> (Lane<E>, Running) {
    let (queue, queued) = mpsc::channel(queue_max);
    let streams = Arc::new(Semaphore::new(streams_share(queue_max)));
    let (stop, stopped) = watch::channel(false);
    let shares = Arc::new(Shares::of(queue_max));
    let arrivals = Arrivals { queued, streams: Arc::clone(&streams), shares: Arc::clone(&shares) };
    let task = tokio::spawn(supervise::<E>(connector, dispatchers, arrivals, stopped, counters));
    (Lane { queue, streams, shares }, Running { stop, task })
}
