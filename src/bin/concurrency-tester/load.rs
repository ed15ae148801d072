//! A random load of every operation of the contract, through one or several instances, which may fail
//! meanwhile. Everything that was asked and told is recorded for the [`witness`].
//!
//! In reading order: [`draw`] draws what a client sends, [`caller`] sends it and [`settling`] sends it again
//! until the outcome is known, [`stream`] and [`reads`] are the two longer steps, [`recorder`] keeps what was
//! told, [`ending`] reads the histories.

mod amounts;
mod caller;
mod counts;
mod draw;
mod ending;
mod holds;
mod lines;
mod opening;
mod reads;
mod recorder;
mod settling;
mod shared;
mod stream;
mod wires;

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) use counts::{Category, Counts, Operations};

use crate::contract::books::Books;
use crate::findings::Tally;
use crate::limits;
use crate::run_error::RunError;
use crate::target::Target;
use crate::witness::{self, record::Record};
use caller::Caller;
use draw::Draws;
use recorder::Recorder;
use shared::{Clock, Pace, Shared, Stop};

/// What a load is made of.
#[derive(Debug, Clone)]
pub(crate) struct LoadPlan {
    /// At least one. All are instances on one database.
    pub(crate) targets: Vec<Target>,
    pub(crate) authorization: Option<HeaderValue>,
    /// Each sends one request after another.
    pub(crate) clients: usize,
    /// At least one, and one more is the merchant. Few, so that every row is contended.
    pub(crate) users: usize,
    /// What each user begins with, at least. An amount is between `2^32` and `2^33`, and an opening balance
    /// is above all of them.
    pub(crate) balance: i64,
    /// With it, each client draws the same again.
    pub(crate) seed: u64,
    /// A request without an answer after this is a violation.
    pub(crate) answer_limit: Duration,
    /// At most so many steps a second in all. `None`: as fast as the clients can.
    pub(crate) per_second: Option<u32>,
    /// No more steps than these. Operations that are sent again are not counted.
    pub(crate) requests_max: Option<usize>,
}

/// A load that runs. Dropping it ends all clients.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Recorder>,
    recorder: Recorder,
    users: Vec<i64>,
}

/// A load that has ended.
pub(crate) struct Finished {
    pub(crate) record: Record,
    /// Every user of the load from its beginning. An error says why the final read is incomplete: the run
    /// proves nothing.
    pub(crate) books: Result<Books, String>,
    pub(crate) counts: Counts,
    /// Operations with a key whose outcome stayed unknown.
    pub(crate) unresolved: usize,
    /// What the load itself found: requests without an answer in time, and reads with an answer that the
    /// contract does not allow. The witness adds to it.
    pub(crate) tally: Tally,
    open: Vec<(usize, Category)>,
}

impl Load {
    /// Creates the users and starts the clients.
    ///
    /// # Errors
    /// An instance is not reachable, or does not do what is needed to begin.
    pub(crate) async fn start(plan: LoadPlan) -> Result<Self, RunError> {
        limits::ensure_connections_fit(plan.clients * (plan.targets.len() + 1))?;
        let clock = Clock(std::time::Instant::now());
        let instances = opening::resolve(&plan).await?;
        let (cast, recorder) = opening::create_users(&plan, &instances, clock).await?;
        let users = cast.users.iter().copied().chain([cast.merchant]).collect();
        let shared = Arc::new(Shared {
            instances,
            approaches: plimsoll::approach::registry::names().collect(),
            cast,
            holds: Default::default(),
            answer_limit: plan.answer_limit,
            counters: Default::default(),
            pace: Pace::of(plan.requests_max, plan.per_second),
            clock,
            stop: Stop::new(),
        });
        let mut clients = JoinSet::new();
        for client in 0..plan.clients {
            let draws = Draws { seed: plan.seed, client, clients: plan.clients, next: 0 };
            clients.spawn(Caller::new(Arc::clone(&shared), draws).run());
        }
        Ok(Self { shared, clients, recorder, users })
    }

    /// Nanoseconds on the clock of the record.
    pub(crate) fn now(&self) -> u64 {
        self.shared.clock.now()
    }

    /// What was done so far. Stops nobody.
    pub(crate) fn counts(&self) -> Counts {
        self.shared.counters.now()
    }

    /// The users, the hot one first and the merchant last.
    pub(crate) fn users(&self) -> &[i64] {
        &self.users
    }

    /// What the user began with, by its position among [`Self::users`].
    pub(crate) fn opening(plan: &LoadPlan, position: usize) -> i64 {
        opening::balance(plan, position)
    }

    /// Lets the clients go on for so long, or until they have sent as many requests as they may.
    pub(crate) async fn run_for(&mut self, duration: Duration) {
        // What the limit interrupts, `finish` completes.
        let _ = timeout(duration, self.join()).await;
    }

    async fn join(&mut self) {
        while let Some(recorder) = self.clients.join_next().await {
            // A panic here is a bug of the tester: it must not look like a smaller run.
            self.recorder.absorb(recorder.expect("a client of the load does not panic"));
        }
    }

    /// No new operations. Every operation with a key is sent again until its outcome is known, for as long
    /// as `patience` says; then the histories are read, for as long again.
    pub(crate) async fn finish(mut self, patience: Duration) -> Finished {
        self.shared.stop.begin(self.shared.clock, patience);
        self.join().await;
        let Self { shared, recorder, .. } = self;
        let Recorder { record, open, wrong, .. } = recorder;
        let books = ending::read_books(&shared, patience).await;
        let mut tally = Tally::default();
        for (kind, example) in wrong {
            tally.add(kind, || example);
        }
        let counts = shared.counters.now();
        let unresolved = counts.total().unresolved;
        Finished { record, books, counts, unresolved, tally, open }
    }
}

impl Finished {
    /// Lets the witness judge it, if the histories are there. What it finds is added to the tally, and of the
    /// operations without a key, whose outcome is unknown, is counted which were applied.
    pub(crate) fn judge(&mut self) {
        let Ok(books) = &self.books else { return };
        let applied = witness::judge(&self.record, books, &mut self.tally).applied;
        for (operation, category) in self.open.drain(..) {
            let counts = &mut self.counts.categories[category as usize];
            match applied[operation] {
                true => counts.in_journal += 1,
                false => counts.not_in_journal += 1,
            }
        }
    }
}
