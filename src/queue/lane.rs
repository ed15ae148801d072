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
use crate::ledger::ChangeError;
use crate::metrics::{LaneCounters, QueueUse};
use crate::store::session::Connector;

pub(crate) use super::engine::{Caller, Engine, Step, Time};

/// The sending side of a lane's queue.
pub(crate) struct Lane<E: Engine> {
    queue: mpsc::Sender<Arrival<E>>,
    streams: Arc<Semaphore>,
}

/// Places in a lane's queue.
pub(crate) struct Places<'a, E: Engine>(mpsc::PermitIterator<'a, Arrival<E>>);

impl<E: Engine> Places<'_, E> {
    /// Appends work to the queue.
    ///
    /// # Panics
    /// Beyond the number of places.
    pub(crate) fn send(&mut self, work: E::Work, caller: Caller<E::Answer>) {
        self.0.next().expect("as many places as there is work").send(Arrival::now(work, caller));
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
    /// [`ChangeError::NotApplied`] when the queue is full or the service is stopping.
    pub(crate) fn submit(
        &self,
        work: E::Work,
        dispatcher: DispatcherId,
    ) -> Result<oneshot::Receiver<E::Answer>, ChangeError> {
        let (to, answer) = oneshot::channel();
        match self.queue.try_send(Arrival::now(work, Caller::One { to, dispatcher })) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => Err(full()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ended()),
        }
    }

    /// Takes this many places, without waiting.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when there are fewer, or the service is stopping.
    pub(crate) fn try_reserve(&self, count: usize) -> Result<Places<'_, E>, ChangeError> {
        match self.queue.try_reserve_many(count) {
            Ok(places) => Ok(Places(places)),
            Err(mpsc::error::TrySendError::Full(())) => Err(full()),
            Err(mpsc::error::TrySendError::Closed(())) => Err(ended()),
        }
    }

    /// The most places that a stream may wait for at once.
    pub(crate) fn streamed_max(&self) -> usize {
        streams_share(self.queue.max_capacity()).min(STREAMED_MAX)
    }

    /// Waits for this many places for a stream, [`streamed_max`](Self::streamed_max) at most. Each
    /// must be used for a [`Caller::Streamed`], before anything else is awaited.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when the service is stopping.
    pub(crate) async fn reserve_streamed(&self, count: u32) -> Result<Places<'_, E>, ChangeError> {
        let share = self.streams.acquire_many(count).await.map_err(|_| ended())?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let places = self.queue.reserve_many(count).await.map_err(|_| ended())?;
        // The lane gives it back when it takes the work from the queue.
        share.forget();
        Ok(Places(places))
    }
}

fn full() -> ChangeError {
    ChangeError::NotApplied("the lane's queue is full".into())
}

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
    let arrivals = Arrivals { queued, streams: Arc::clone(&streams) };
    let task = tokio::spawn(supervise::<E>(connector, dispatchers, arrivals, stopped, counters));
    (Lane { queue, streams }, Running { stop, task })
}
