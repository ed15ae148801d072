//! The task of a lane: takes what has queued up, and serves it batch by batch.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::error;

use super::dispatch::{Delivery, Dispatchers, Outbox};
use super::engine::{Arrival, Caller, Engine, Step};
use super::shares::{OfUsers, Shares};
use crate::metrics::LaneCounters;
use crate::store::session::Connector;

/// The pause after a panic, since its cause may still be there.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Starts the lane again after a panic, which drops the callers of the work that it had taken.
pub(super) async fn supervise<E: Engine>(
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
            Err(panic) => {
                counters.restarts.inc();
                error!(%panic, "a lane panicked and is started again");
            }
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
pub(super) struct Arrivals<E: Engine> {
    pub(super) queued: mpsc::Receiver<Arrival<E>>,
    pub(super) streams: Arc<Semaphore>,
    pub(super) shares: Arc<Shares>,
}

/// Connects the engine with the queue.
struct Serving<'a, E: Engine> {
    engine: E,
    started: Instant,
    dispatchers: &'a Dispatchers<E::Answer>,
    outbox: Outbox<E::Answer>,
    queued: &'a mut mpsc::Receiver<Arrival<E>>,
    streams: &'a Semaphore,
    shares: &'a Shares,
    /// Received from the queue, on the way to the engine.
    arrivals: Vec<Arrival<E>>,
    counters: &'a LaneCounters,
}

impl<'a, E: Engine> Serving<'a, E> {
    fn new(
        engine: E,
        dispatchers: &'a Dispatchers<E::Answer>,
        Arrivals { queued, streams, shares }: &'a mut Arrivals<E>,
        counters: &'a LaneCounters,
    ) -> Self {
        let (started, outbox, arrivals) = (Instant::now(), Outbox::default(), Vec::new());
        Self { engine, started, dispatchers, outbox, queued, streams, shares, arrivals, counters }
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            self.accept_all_queued();
            match self.engine.next(self.started.elapsed()) {
                Step::Send { accepted } => {
                    if accepted > 0 {
                        self.counters.observe_size(accepted);
                    }
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
        let is_streamed = |arrival: &&Arrival<E>| matches!(arrival.caller, Caller::Streamed(_));
        self.streams.add_permits(self.arrivals.iter().filter(is_streamed).count());
        self.shares.give_back(self.arrivals.iter().map(|arrival| arrival.work.holders()));
        let now = std::time::Instant::now();
        for Arrival { work, caller, at } in self.arrivals.drain(..) {
            self.counters.observe_wait(now.duration_since(at));
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
        let began = std::time::Instant::now();
        self.engine.serve(self.started).await;
        self.counters.observe_batch(began.elapsed());
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
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use sqlx::postgres::PgConnectOptions;

    use super::*;
    use crate::ledger::UserId;
    use crate::metrics::Metrics;
    use crate::queue::engine::Time;
    use crate::queue::lane;
    use crate::queue::shares::Holders;
    use crate::store::session::SessionLimits;

    static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

    /// Panics on its first piece of work, and answers the others. Needs no database.
    #[derive(Default)]
    struct Fragile {
        arrived: Vec<Caller<()>>,
        answered: Vec<(Caller<()>, ())>,
    }

    /// Work of one user.
    struct Any;

    impl OfUsers for Any {
        fn holders(&self) -> Holders {
            Holders { owner: UserId::new(1).unwrap(), payee: None }
        }
    }

    impl Engine for Fragile {
        type Work = Any;
        type Answer = ();

        fn new(_: Connector, _: usize) -> Self {
            Self::default()
        }

        fn arrive(&mut self, _: Any, caller: Caller<()>) {
            assert!(HAS_PANICKED.swap(true, Ordering::Relaxed), "as the test wants it");
            self.arrived.push(caller);
        }

        fn room(&self) -> usize {
            8
        }

        fn arrived(&self) -> usize {
            self.arrived.len()
        }

        fn stop(&mut self) {}

        fn next(&mut self, _: Time) -> Step {
            match self.arrived.len() {
                0 => Step::Wait { until: None },
                accepted => Step::Send { accepted },
            }
        }

        async fn serve(&mut self, _: Instant) {
            self.answered.extend(self.arrived.drain(..).map(|caller| (caller, ())));
        }

        fn take_answers(&mut self) -> impl Iterator<Item = (Caller<()>, ())> {
            std::mem::take(&mut self.answered).into_iter()
        }

        fn take_retries(&mut self) -> u64 {
            0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_panics_is_started_again_and_counted() {
        let minute = Duration::from_secs(60);
        let limits = SessionLimits { answer: minute, lock_wait: minute };
        let connector = Connector::new(PgConnectOptions::new_without_pgpass(), limits);
        let (dispatchers, counters) = (Arc::default(), Metrics::default().of_lanes("batched"));
        let dispatcher = Dispatchers::start(&dispatchers);
        let (lane, running) = lane::start::<Fragile>(connector, dispatchers, 4, counters.clone());
        assert!(lane.submit(Any, dispatcher).unwrap().await.is_err(), "it is lost with the panic");
        assert_eq!(lane.submit(Any, dispatcher).unwrap().await, Ok(()));
        assert_eq!(counters.restarts.get(), 1);
        running.stop();
        running.finish(Instant::now() + minute).await;
    }
}
