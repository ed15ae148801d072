//! A lane: a bounded queue, and the task that serves it batch by batch.
//!
//! A lane takes everything that queued up while it served the last batch. It knows nothing about the
//! work: an [`Engine`] decides what to send to the database, sends it, and decides on the answers.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{error, warn};

use super::dispatch::{Delivery, DispatcherId, Dispatchers, Outbox};
use super::gather::Slot;
use crate::ledger::ChangeError;
use crate::metrics::LaneCounters;
use crate::store::session::Connector;

/// The pause after a panic, since its cause may still be there.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

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
    type Work: Send + 'static;
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
        self.0.next().expect("as many places as there is work").send((work, caller));
    }
}

/// Work on its way into a lane.
type Arrival<E> = (<E as Engine>::Work, Caller<<E as Engine>::Answer>);

impl<E: Engine> Lane<E> {
    /// How much waits for a batch.
    pub(crate) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
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
        match self.queue.try_send((work, Caller::One { to, dispatcher })) {
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

/// Starts the lane again after a panic, which drops the callers of the work that it had taken.
async fn supervise<E: Engine>(
    connector: Connector,
    dispatchers: Arc<Dispatchers<E::Answer>>,
    arrivals: Arrivals<E>,
    stopped: watch::Receiver<bool>,
    counters: LaneCounters,
) {
    let queue = Arc::new(Mutex::new(arrivals));
    loop {
        let serving = {
            let (connector, dispatchers) = (connector.clone(), Arc::clone(&dispatchers));
            let (queue, stopped) = (Arc::clone(&queue), stopped.clone());
            let counters = counters.clone();
            async move {
                let mut arrivals = queue.lock().await;
                // As much may wait apart as may be queued.
                let engine = E::new(connector, arrivals.queued.max_capacity());
                Serving::new(engine, &dispatchers, &mut arrivals, &counters).run(stopped).await;
            }
        };
        // Without it, aborting this task would leave the inner one running.
        let mut serving = AbortOnDrop(tokio::spawn(serving));
        match (&mut serving.0).await {
            Ok(()) => return,
            Err(panic) => error!(%panic, "a lane panicked and is started again"),
        }
        sleep(RESTART_PAUSE).await;
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The receiving side of a lane's queue.
struct Arrivals<E: Engine> {
    queued: mpsc::Receiver<Arrival<E>>,
    streams: Arc<Semaphore>,
}

/// Connects the engine with the queue.
struct Serving<'a, E: Engine> {
    engine: E,
    started: Instant,
    dispatchers: &'a Dispatchers<E::Answer>,
    outbox: Outbox<E::Answer>,
    queued: &'a mut mpsc::Receiver<Arrival<E>>,
    streams: &'a Semaphore,
    /// Received from the queue, on the way to the engine.
    arrivals: Vec<Arrival<E>>,
    counters: &'a LaneCounters,
}

impl<'a, E: Engine> Serving<'a, E> {
    fn new(
        engine: E,
        dispatchers: &'a Dispatchers<E::Answer>,
        Arrivals { queued, streams }: &'a mut Arrivals<E>,
        counters: &'a LaneCounters,
    ) -> Self {
        let (started, outbox, arrivals) = (Instant::now(), Outbox::default(), Vec::new());
        Self { engine, started, dispatchers, outbox, queued, streams, arrivals, counters }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            self.accept_all_queued();
            match self.engine.next(self.started.elapsed()) {
                Step::Send { accepted } => {
                    self.observe(accepted);
                    self.serve().await;
                }
                Step::Wait { until: None } if self.queued.is_closed() && self.queued.is_empty() => {
                    return;
                }
                Step::Wait { until } => self.wait(until, &mut stopped).await,
            }
        }
    }

    /// Passes queued work to the engine, for the next batch.
    fn accept_all_queued(&mut self) {
        let before = self.engine.arrived();
        self.accept_queued();
        let arrived = self.engine.arrived();
        if arrived > before.max(1) {
            // Yields the processor once. On busy processors, requests that have arrived are still
            // being read, and a fuller batch makes each change cheaper. A lone change does not wait.
            thread::yield_now();
            self.accept_queued();
        }
    }

    fn accept_queued(&mut self) {
        let room = self.engine.room();
        if room > 0 {
            // Each `try_recv` would lock the queue once.
            let _ = self.queued.recv_many(&mut self.arrivals, room).now_or_never();
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        let is_streamed = |(_, caller): &&Arrival<E>| matches!(caller, Caller::Streamed(_));
        self.streams.add_permits(self.arrivals.iter().filter(is_streamed).count());
        for (work, caller) in self.arrivals.drain(..) {
            self.engine.arrive(work, caller);
        }
    }

    async fn wait(&mut self, until: Option<Duration>, stopped: &mut watch::Receiver<bool>) {
        // What timed out is answered before the wait.
        self.deliver();
        let at = until.map(|until| self.started + until);
        let room = self.engine.room();
        tokio::select! {
            biased;
            _ = self.queued.recv_many(&mut self.arrivals, room),
                if !self.queued.is_closed() || !self.queued.is_empty() => self.arrive(),
            // A closed queue still yields its content.
            _ = stopped.wait_for(|stopped| *stopped), if !self.queued.is_closed() => {
                self.queued.close();
                self.streams.close();
                self.engine.stop();
            }
            () = sleep_until(at.unwrap_or(self.started)), if at.is_some() => {}
        }
    }

    async fn serve(&mut self) {
        // What timed out is answered before the next request, which may take long.
        self.deliver();
        self.engine.serve(self.started).await;
        self.counters.retries.inc_by(self.engine.take_retries());
        self.deliver();
    }

    fn deliver(&mut self) {
        for (caller, answer) in self.engine.take_answers() {
            match caller {
                Caller::One { to, dispatcher } => {
                    self.outbox.push(dispatcher, Delivery { to, answer });
                }
                Caller::Part(slot) | Caller::Streamed(slot) => slot.fill(answer),
            }
        }
        self.outbox.flush(self.dispatchers);
    }

    fn observe(&self, accepted: usize) {
        if accepted > 0 {
            self.counters.batches.observe(f64::from(u32::try_from(accepted).unwrap_or(u32::MAX)));
        }
    }
}
