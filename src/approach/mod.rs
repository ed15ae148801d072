//! The approaches: ways to change one balance, side by side behind one contract.
//!
//! # How to add one
//! Write `approach/<name>.rs` with a type that implements `Pooled` (or [`Approach`] itself, where
//! one connection per change is not how it works), and add its line to [`ALL`]. The route, the
//! conformance tests and the concurrency tester iterate that list.
//!
//! # What each must keep
//! The line: no balance below zero, whoever else changes it at that moment, through whichever
//! approach. The truth: an accepted change answers with its own resulting balance, and a refused
//! one was unaffordable at some moment between request and answer. Nothing half-done: whatever is
//! not answered with a balance has changed nothing, unless the answer says "outcome unknown".

mod batched;
mod deciding;
mod guarded_update;
mod optimistic;
mod pessimistic;
mod serializable;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use crate::balance::{Change, ChangeError, Decision, Key, Outcome, UserId};
use crate::metrics::{Metrics, Tally};
use crate::store::error::Sent;
use crate::store::idempotency::look;
use crate::store::retry::{Failure, Policy};
use crate::store::{BoxFuture, Store};
use batched::Lanes;
use deciding::{Settled, settle};
use turns::Turns;

/// One way to apply a change.
pub trait Approach: Send + Sync + 'static {
    /// Decides on one change that is not zero, and applies it where it is affordable.
    ///
    /// The future may be dropped at any time; the change then still happens in full or not at all.
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>>;
}

/// An entry of the list: what there is to know before an approach is built.
pub struct Entry {
    /// The name in the route.
    pub name: &'static str,
    build: fn(&Store, &Shared, &Tally) -> Arc<dyn Approach>,
}

/// All approaches, in the order in which they are listed everywhere.
pub static ALL: [Entry; 5] = [
    Entry { name: "self", build: on_pool::<guarded_update::GuardedUpdate> },
    Entry {
        name: "transaction-pessimistic-locking",
        build: on_pool::<pessimistic::PessimisticLocking>,
    },
    Entry { name: "optimistic-locking", build: admitted::<optimistic::OptimisticLocking> },
    Entry { name: "serializable", build: admitted::<serializable::Serializable> },
    Entry { name: batched::NAME, build: batched::build },
];

/// The name of the approach behind `PATCH /users/{id}/balance` where none is configured.
pub const DEFAULT: &str = batched::NAME;

/// The names of all approaches, in the order in which they are listed everywhere.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|entry| entry.name)
}

/// How changes are applied.
#[derive(Clone, Copy, Debug)]
pub struct ApproachOptions {
    /// The name of the approach behind `PATCH /users/{id}/balance`.
    pub default: &'static str,
    /// How long a change waits for another one with the same key.
    pub key_wait: Duration,
    /// How long a change waits for others before it is let into the tries of a racing approach.
    pub admission_wait: Duration,
    /// How many lanes `batched` has.
    pub lanes: usize,
    /// How many changes may wait in one lane.
    pub lane_queue: usize,
}

/// What all threads of a service share: the queues in which changes wait for each other. Clones
/// share them.
#[derive(Clone)]
pub struct Shared {
    options: ApproachOptions,
    /// Who works on a key.
    keys: Turns<(UserId, Key)>,
    /// Who races for a user's row.
    racers: Turns<UserId>,
    lanes: Arc<Lanes>,
    metrics: Arc<Metrics>,
}

impl Shared {
    /// Starts the lanes, on the current runtime and with connections of their own.
    pub fn start(store: &Store, options: ApproachOptions) -> Self {
        let metrics = Arc::new(Metrics::default());
        let tally = metrics.of_lanes(batched::NAME);
        let lanes = Lanes::start(store, options.lanes, options.lane_queue, &tally);
        let (keys, racers) = (Turns::default(), Turns::default());
        Self { options, keys, racers, lanes: Arc::new(lanes), metrics }
    }

    /// Decides on what still waits in the lanes, and ends them. Nothing may be applied after it.
    pub async fn close(&self) {
        self.lanes.close().await;
    }
}

/// The approaches, ready for use, on the connections of one thread. Clones share them.
#[derive(Clone)]
pub struct Approaches {
    store: Store,
    shared: Shared,
    built: Arc<[Built]>,
}

struct Built {
    approach: Arc<dyn Approach>,
    tally: Tally,
}

/// One approach, ready for use.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    all: &'a Approaches,
    built: &'a Built,
}

impl Approaches {
    /// Builds every approach of [`ALL`] on `store`.
    pub fn new(store: &Store, shared: &Shared) -> Self {
        let build = |entry: &Entry| {
            let tally = shared.metrics.of(entry.name);
            Built { approach: (entry.build)(store, shared, &tally), tally }
        };
        let built = ALL.iter().map(build).collect();
        Self { store: store.clone(), shared: shared.clone(), built }
    }

    /// What was counted so far by all threads that share with this one, for `GET /metrics`.
    pub fn metrics(&self) -> String {
        self.shared.metrics.text(self.shared.lanes.queued())
    }

    /// The approach of that name in the route.
    pub fn get(&self, name: &str) -> Option<Chosen<'_>> {
        let position = ALL.iter().position(|entry| entry.name == name)?;
        Some(Chosen { all: self, built: &self.built[position] })
    }

    /// The name of the approach of the routes that name none.
    pub fn default_name(&self) -> &'static str {
        self.shared.options.default
    }
}

impl Chosen<'_> {
    /// Decides on one change, and applies it where it is affordable. With a key, at most once.
    ///
    /// The future may be dropped at any time; the change then still happens in full or not at all.
    pub async fn apply(self, change: Change) -> Result<Outcome, ChangeError> {
        let end = self.in_its_turn(change).await;
        self.built.tally.count(&end);
        end
    }

    fn in_its_turn(self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let Some(key) = change.key.clone() else { return self.decide(change) };
        let shared = &self.all.shared;
        let (keys, limit) = (shared.keys.clone(), shared.options.key_wait);
        let (user, deciding) = (change.user, self.decide(change));
        // In a task of its own: the turn must last as long as the change, not as long as the client.
        Box::pin(detached(async move {
            let turn = keys.take((user, key), limit).await;
            let _turn = turn.map_err(|_| ChangeError::KeyInProgress)?;
            deciding.await
        }))
    }

    fn decide(self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        if change.amount.is_zero() {
            // Zero changes nothing: it reads, the same way for every approach.
            return read(&self.all.store, &self.built.tally, change);
        }
        self.built.approach.apply(change)
    }
}

/// Goes on to its end when the caller does not.
async fn detached(
    work: impl Future<Output = Result<Outcome, ChangeError>> + Send + 'static,
) -> Result<Outcome, ChangeError> {
    let task: JoinHandle<_> = tokio::spawn(work);
    task.await.unwrap_or_else(|panic| Err(ChangeError::Internal(panic.into())))
}

/// An approach that does its work on one connection per change.
trait Pooled: Send + Sync + Default + 'static {
    /// How often a lost race is tried again. The default is for races that are rare: a deadlock,
    /// or a key that another process used in the meantime.
    const POLICY: Policy = Policy {
        tries_max: 10,
        pause: Duration::from_millis(2),
        pause_max: Duration::from_millis(100),
    };

    /// Makes one try.
    fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> impl Future<Output = Result<Outcome, Failure>> + Send;
}

/// For approaches that lose every race on a row that others keep busy: long enough to outlast a
/// burst of 10,000 changes on a slow disk, and then it is "not applied".
const LONG_RACE: Policy = Policy {
    tries_max: 2_000,
    pause: Duration::from_millis(1),
    pause_max: Duration::from_millis(100),
};

/// Gives a [`Pooled`] approach its connections.
struct OnPool<A> {
    approach: Arc<A>,
    store: Store,
    tries_repeated: Counter,
}

impl<A: Pooled> OnPool<A> {
    fn new(store: &Store, tally: &Tally) -> Self {
        let (store, tries_repeated) = (store.clone(), tally.tries_repeated.clone());
        Self { approach: Arc::default(), store, tries_repeated }
    }
}

fn on_pool<A: Pooled>(store: &Store, _: &Shared, tally: &Tally) -> Arc<dyn Approach> {
    Arc::new(OnPool::<A>::new(store, tally))
}

impl<A: Pooled> Approach for OnPool<A> {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let (approach, store) = (Arc::clone(&self.approach), self.store.clone());
        let tries_repeated = self.tries_repeated.clone();
        Box::pin(async move {
            let repeats = || {
                tries_repeated.inc();
            };
            let tries = store.perform_tries(A::POLICY, repeats, move |connection| {
                let (approach, change) = (Arc::clone(&approach), change.clone());
                Box::pin(async move { approach.attempt(connection, &change).await })
            });
            tries.await
        })
    }
}

/// A [`Pooled`] approach that lets one change of a user into its tries at a time, in order of
/// arrival. The others wait without a connection.
struct Admitted<A> {
    inner: OnPool<A>,
    users: Turns<UserId>,
    wait: Duration,
}

fn admitted<A: Pooled>(store: &Store, shared: &Shared, tally: &Tally) -> Arc<dyn Approach> {
    let inner = OnPool::<A>::new(store, tally);
    let (users, wait) = (shared.racers.clone(), shared.options.admission_wait);
    Arc::new(Admitted { inner, users, wait })
}

impl<A: Pooled> Approach for Admitted<A> {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let (users, wait, user) = (self.users.clone(), self.wait, change.user);
        let applying = self.inner.apply(change);
        Box::pin(detached(async move {
            let turn = users.take(user, wait).await;
            let _turn = turn.map_err(|elapsed| ChangeError::NotApplied(elapsed.into()))?;
            applying.await
        }))
    }
}

/// A change of zero. With a key, the balance that it read is kept like any other outcome.
fn read(
    store: &Store,
    tally: &Tally,
    change: Change,
) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
    if change.key.is_some() {
        return OnPool::<KeyedRead>::new(store, tally).apply(change);
    }
    let store = store.clone();
    Box::pin(async move {
        let balance = store.balance(change.user).await?;
        Ok(Outcome::fresh(Decision::Accepted(balance)))
    })
}

#[derive(Default)]
struct KeyedRead;

impl Pooled for KeyedRead {
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        let seen = look(connection, change).await?;
        settle(connection, change, seen, Sent::Commit).await.map(Settled::outcome)
    }
}
