//! A lane: a bounded queue, and the task that empties it batch by batch.

use std::sync::Arc;
use std::thread;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::error;

use super::batch;
use super::courier::{CourierId, Couriers, Delivery, Outbox};
use super::link::Link;
use crate::balance::{Change, ChangeError, Outcome};
use crate::metrics::LaneTally;
use crate::store::Store;

/// The most changes in one batch. More would not be faster: the commit is a small part of the cost
/// of so many rows by then, and each caller waits for the whole batch.
const CHANGES_MAX: usize = 2_048;

/// What a caller waits for.
pub(super) type Answer = Result<Outcome, ChangeError>;

/// A change in a lane, and who waits for it.
pub(super) struct Waiting {
    pub(super) change: Change,
    /// A statement with it was lost with its connection: it may have happened.
    pub(super) maybe_applied: bool,
    caller: oneshot::Sender<Answer>,
    courier: CourierId,
}

impl Waiting {
    /// The answer leaves with the next emptying of the outbox.
    pub(super) fn answer(self, out: &mut Outbox, answer: Answer) {
        out.push(self.courier, Delivery { to: self.caller, answer });
    }
}

/// The way into a lane.
pub(super) struct Lane {
    queue: mpsc::Sender<Waiting>,
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
        let (caller, answered) = oneshot::channel();
        let waiting = Waiting { change, maybe_applied: false, caller, courier };
        match self.queue.try_send(waiting) {
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
    /// Takes nothing more, decides on what is queued, and ends.
    pub(super) async fn end(self) {
        self.stop.send_replace(true);
        if let Err(panic) = self.task.await {
            error!(%panic, "a lane ended badly");
        }
    }
}

/// Starts a lane on the current runtime.
pub(super) fn start(
    store: Store,
    couriers: Arc<Couriers>,
    queue_max: usize,
    tally: LaneTally,
) -> (Lane, Running) {
    let (queue, queued) = mpsc::channel(queue_max);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(supervise(store, couriers, queued, stopped, tally));
    (Lane { queue }, Running { stop, task })
}

/// One panic is one batch without an answer, not the end of the lane.
async fn supervise(
    store: Store,
    couriers: Arc<Couriers>,
    queued: mpsc::Receiver<Waiting>,
    stopped: watch::Receiver<bool>,
    tally: LaneTally,
) {
    let queued = Arc::new(Mutex::new(queued));
    loop {
        let (link, couriers) = (Link::new(store.clone()), Arc::clone(&couriers));
        let (queued, stopped, tally) = (Arc::clone(&queued), stopped.clone(), tally.clone());
        let serving = tokio::spawn(async move {
            serve(link, &couriers, &mut *queued.lock().await, stopped, &tally).await;
        });
        match serving.await {
            Ok(()) => return,
            Err(panic) => error!(%panic, "a lane panicked and is started again"),
        }
    }
}

async fn serve(
    mut link: Link,
    couriers: &Couriers,
    queued: &mut mpsc::Receiver<Waiting>,
    mut stopped: watch::Receiver<bool>,
    tally: &LaneTally,
) {
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = queued.recv_many(&mut taken, CHANGES_MAX) => {
                if count == 0 {
                    return;
                }
            }
            // What is queued already is still taken; then the count is zero.
            _ = stopped.wait_for(|stopped| *stopped), if !queued.is_closed() => queued.close(),
        }
        if taken.len() > 1 {
            // Whoever else waits for this processor goes first, once. Where the processors are busy,
            // requests that have arrived are still being read, and a fuller batch costs everybody
            // less. A lone change waits for nobody.
            thread::yield_now();
            while taken.len() < CHANGES_MAX
                && let Ok(waiting) = queued.try_recv()
            {
                taken.push(waiting);
            }
        }
        if !taken.is_empty() {
            tally.batches.observe(f64::from(u32::try_from(taken.len()).unwrap_or(u32::MAX)));
            batch::settle(&mut link, couriers, tally, std::mem::take(&mut taken)).await;
        }
    }
}
