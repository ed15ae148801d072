//! A lane: a bounded queue, and the task that empties it batch by batch.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{error, warn};

use super::core::{Answer, Core, Step};
use super::courier::{CourierId, Couriers, Delivery, Outbox};
use super::link::Link;
use crate::balance::{Change, ChangeError};
use crate::metrics::LaneTally;
use crate::store::session::Connector;

/// The pause after a panic: what made it may still be there.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Who waits for a change.
pub(super) struct Caller {
    to: oneshot::Sender<Answer>,
    courier: CourierId,
}

/// A change on its way into a lane.
type Arrival = (Change, Caller);

/// The way into a lane.
pub(super) struct Lane {
    queue: mpsc::Sender<Arrival>,
}

impl Lane {
    /// How many changes wait for their batch.
    pub(super) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Puts a change at the end of the queue; the answer comes when it is decided.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when the queue is full or the service is stopping.
    pub(super) fn submit(
        &self,
        change: Change,
        courier: CourierId,
    ) -> Result<oneshot::Receiver<Answer>, ChangeError> {
        let (to, answered) = oneshot::channel();
        match self.queue.try_send((change, Caller { to, courier })) {
            Ok(()) => Ok(answered),
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
    /// Tells it to take nothing more, to decide on what is queued, and to end.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end. One that is not there in time is broken off, and its session closed.
    pub(super) async fn end(mut self, by: Instant) {
        match timeout_at(by, &mut self.task).await {
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
    couriers: Arc<Couriers>,
    queue_max: usize,
    tally: LaneTally,
) -> (Lane, Running) {
    let (queue, queued) = mpsc::channel(queue_max);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(supervise(connector, couriers, queued, stopped, tally));
    (Lane { queue }, Running { stop, task })
}

/// A panic leaves those in the lane without an answer, and is not the end of the lane.
async fn supervise(
    connector: Connector,
    couriers: Arc<Couriers>,
    queued: mpsc::Receiver<Arrival>,
    stopped: watch::Receiver<bool>,
    tally: LaneTally,
) {
    let queue = Arc::new(Mutex::new(queued));
    loop {
        let serving = {
            let (link, couriers) = (Link::new(connector.clone()), Arc::clone(&couriers));
            let (queue, stopped) = (Arc::clone(&queue), stopped.clone());
            let tally = tally.clone();
            async move {
                let mut queued = queue.lock().await;
                Serving::new(link, &couriers, &mut queued, &tally).run(stopped).await;
            }
        };
        // Aborted when this task is, which an unwatched task would not be.
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

/// The core with its queue on one side and its session on the other.
struct Serving<'a> {
    core: Core<Caller>,
    started: Instant,
    link: Link,
    couriers: &'a Couriers,
    out: Outbox,
    queued: &'a mut mpsc::Receiver<Arrival>,
    /// Between the queue and the core.
    taken: Vec<Arrival>,
    tally: &'a LaneTally,
}

impl<'a> Serving<'a> {
    fn new(
        link: Link,
        couriers: &'a Couriers,
        queued: &'a mut mpsc::Receiver<Arrival>,
        tally: &'a LaneTally,
    ) -> Self {
        // As many may wait apart as may wait in the queue.
        let core = Core::new(queued.max_capacity());
        let (started, out, taken) = (Instant::now(), Outbox::default(), Vec::new());
        Self { core, started, link, couriers, out, queued, taken, tally }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            self.take_what_has_queued_up();
            match self.core.next(self.started.elapsed()) {
                Step::Send { taken } => {
                    self.observe(taken);
                    self.carry().await;
                }
                Step::Wait { until: None } if self.queued.is_closed() && self.queued.is_empty() => {
                    return;
                }
                Step::Wait { until } => self.wait(until, &mut stopped).await,
            }
        }
    }

    /// Fills the next batch.
    fn take_what_has_queued_up(&mut self) {
        let before = self.core.arrived();
        self.take_at_once();
        let arrived = self.core.arrived();
        if arrived > before.max(1) {
            // Whoever else waits for this processor goes first, once. Where the processors are busy,
            // requests that have arrived are still being read, and a fuller batch costs everybody
            // less. A lone change waits for nobody.
            thread::yield_now();
            self.take_at_once();
        }
    }

    fn take_at_once(&mut self) {
        let room = self.core.room();
        if room > 0 {
            // All in one go: each `try_recv` would lock the queue for itself.
            let _ = self.queued.recv_many(&mut self.taken, room).now_or_never();
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        for (change, caller) in self.taken.drain(..) {
            self.core.arrive(change, caller);
        }
    }

    async fn wait(&mut self, until: Option<Duration>, stopped: &mut watch::Receiver<bool>) {
        // Those who gave up are told before anything is waited for.
        self.deliver();
        let at = until.map(|until| self.started + until);
        let room = self.core.room();
        tokio::select! {
            biased;
            _ = self.queued.recv_many(&mut self.taken, room),
                if !self.queued.is_closed() || !self.queued.is_empty() => self.arrive(),
            // What is queued already is still taken.
            _ = stopped.wait_for(|stopped| *stopped), if !self.queued.is_closed() => {
                self.queued.close();
                self.core.stop();
            }
            () = sleep_until(at.unwrap_or(self.started)), if at.is_some() => {}
        }
    }

    async fn carry(&mut self) {
        // Whoever has given up by now is told before the next request, which may take long.
        self.deliver();
        let Some(request) = self.core.request() else { return };
        let ended = self.link.carry(request).await;
        self.core.on(self.started.elapsed(), ended);
        self.tally.tries_repeated.inc_by(self.core.take_retries());
        self.deliver();
    }

    fn deliver(&mut self) {
        for (Caller { to, courier }, answer) in self.core.take_answers() {
            self.out.push(courier, Delivery { to, answer });
        }
        self.out.empty(self.couriers);
    }

    fn observe(&self, taken: usize) {
        if taken > 0 {
            self.tally.batches.observe(f64::from(u32::try_from(taken).unwrap_or(u32::MAX)));
        }
    }
}
