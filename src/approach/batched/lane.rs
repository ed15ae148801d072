//! A lane: a bounded queue, and the task that serves it batch by batch.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{error, warn};

use super::core::{Answer, Core, Step};
use super::dispatch::{Delivery, DispatcherId, Dispatchers, Outbox};
use super::link::Link;
use crate::ledger::{Change, ChangeError};
use crate::metrics::LaneCounters;
use crate::store::session::Connector;

/// The pause after a panic, since its cause may still be there.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// The receiver of an answer.
pub(super) struct Caller {
    to: oneshot::Sender<Answer>,
    dispatcher: DispatcherId,
}

/// A change on its way into a lane.
type Arrival = (Change, Caller);

/// The sending side of a lane's queue.
pub(super) struct Lane {
    queue: mpsc::Sender<Arrival>,
}

impl Lane {
    /// How many changes wait for a batch.
    pub(super) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Appends a change to the queue. Its answer is sent to the receiver.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when the queue is full or the service is stopping.
    pub(super) fn submit(
        &self,
        change: Change,
        dispatcher: DispatcherId,
    ) -> Result<oneshot::Receiver<Answer>, ChangeError> {
        let (to, answer) = oneshot::channel();
        match self.queue.try_send((change, Caller { to, dispatcher })) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(ChangeError::NotApplied("the lane's queue is full".into()))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(ChangeError::NotApplied("the lane has ended".into()))
            }
        }
    }
}

/// A lane's task.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Makes the lane accept no more changes and end after the queued ones.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the lane has ended. At the deadline it is aborted, and its session is closed.
    pub(super) async fn finish(mut self, deadline: Instant) {
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
pub(super) fn start(
    connector: Connector,
    dispatchers: Arc<Dispatchers>,
    queue_max: usize,
    counters: LaneCounters,
) -> (Lane, Running) {
    let (queue, queued) = mpsc::channel(queue_max);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(supervise(connector, dispatchers, queued, stopped, counters));
    (Lane { queue }, Running { stop, task })
}

/// Starts the lane again after a panic, which drops the callers of the changes that it had taken.
async fn supervise(
    connector: Connector,
    dispatchers: Arc<Dispatchers>,
    queued: mpsc::Receiver<Arrival>,
    stopped: watch::Receiver<bool>,
    counters: LaneCounters,
) {
    let queue = Arc::new(Mutex::new(queued));
    loop {
        let serving = {
            let (link, dispatchers) = (Link::new(connector.clone()), Arc::clone(&dispatchers));
            let (queue, stopped) = (Arc::clone(&queue), stopped.clone());
            let counters = counters.clone();
            async move {
                let mut queued = queue.lock().await;
                Serving::new(link, &dispatchers, &mut queued, &counters).run(stopped).await;
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

/// Connects the core with the queue and the session.
struct Serving<'a> {
    core: Core<Caller>,
    started: Instant,
    link: Link,
    dispatchers: &'a Dispatchers,
    outbox: Outbox,
    queued: &'a mut mpsc::Receiver<Arrival>,
    /// Received from the queue, on the way to the core.
    arrivals: Vec<Arrival>,
    counters: &'a LaneCounters,
}

impl<'a> Serving<'a> {
    fn new(
        link: Link,
        dispatchers: &'a Dispatchers,
        queued: &'a mut mpsc::Receiver<Arrival>,
        counters: &'a LaneCounters,
    ) -> Self {
        // As many changes may be parked as may be queued.
        let core = Core::new(queued.max_capacity());
        let (started, outbox, arrivals) = (Instant::now(), Outbox::default(), Vec::new());
        Self { core, started, link, dispatchers, outbox, queued, arrivals, counters }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            self.accept_all_queued();
            match self.core.next(self.started.elapsed()) {
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

    /// Passes queued changes to the core, for the next batch.
    fn accept_all_queued(&mut self) {
        let before = self.core.arrived();
        self.accept_queued();
        let arrived = self.core.arrived();
        if arrived > before.max(1) {
            // Yields the processor once. On busy processors, requests that have arrived are still
            // being read, and a fuller batch makes each change cheaper. A lone change does not wait.
            thread::yield_now();
            self.accept_queued();
        }
    }

    fn accept_queued(&mut self) {
        let room = self.core.room();
        if room > 0 {
            // Each `try_recv` would lock the queue once.
            let _ = self.queued.recv_many(&mut self.arrivals, room).now_or_never();
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        for (change, caller) in self.arrivals.drain(..) {
            self.core.arrive(change, caller);
        }
    }

    async fn wait(&mut self, until: Option<Duration>, stopped: &mut watch::Receiver<bool>) {
        // Changes that timed out are answered before the wait.
        self.deliver();
        let at = until.map(|until| self.started + until);
        let room = self.core.room();
        tokio::select! {
            biased;
            _ = self.queued.recv_many(&mut self.arrivals, room),
                if !self.queued.is_closed() || !self.queued.is_empty() => self.arrive(),
            // A closed queue still yields its changes.
            _ = stopped.wait_for(|stopped| *stopped), if !self.queued.is_closed() => {
                self.queued.close();
                self.core.stop();
            }
            () = sleep_until(at.unwrap_or(self.started)), if at.is_some() => {}
        }
    }

    async fn serve(&mut self) {
        // Changes that timed out are answered before the next request, which may take long.
        self.deliver();
        let Some(request) = self.core.request() else { return };
        let result = self.link.send(request).await;
        self.core.on(self.started.elapsed(), result);
        self.counters.retries.inc_by(self.core.take_retries());
        self.deliver();
    }

    fn deliver(&mut self) {
        for (Caller { to, dispatcher }, answer) in self.core.take_answers() {
            self.outbox.push(dispatcher, Delivery { to, answer });
        }
        self.outbox.flush(self.dispatchers);
    }

    fn observe(&self, accepted: usize) {
        if accepted > 0 {
            self.counters.batches.observe(f64::from(u32::try_from(accepted).unwrap_or(u32::MAX)));
        }
    }
}
