//! The list of approaches, and the way of a change into one of them: the lock of its key, the
//! dispatch, the counting.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::Approach;
use super::batched::{self, Lanes};
use super::bulk::{self, Bulk};
use super::guarded_update::GuardedUpdate;
use super::optimistic::OptimisticLocking;
use super::pessimistic::PessimisticLocking;
use super::pooled::{Admitted, OnPool, Pooled, detached};
use super::serializable::Serializable;
use crate::ledger::{Change, ChangeError, Decision, Key, Outcome, UserId};
use crate::metrics::{ApproachCounters, Metrics, QueueUse};
use crate::queue::local_lock::LocalLocks;
use crate::queue::shares::{OfUsers, Reserved, Shares};
use crate::store::Store;
use crate::store::held::HeldUsers;
use crate::store::session::{BoxFuture, Connector};

/// A line of the list.
pub struct Registration {
    /// The name in the route.
    pub name: &'static str,
    build: fn(&Builder) -> Arc<dyn Approach>,
}

/// All approaches, in the order in which they are listed everywhere.
pub static ALL: [Registration; 5] = [
    Registration { name: "self", build: Builder::on_pool::<GuardedUpdate> },
    Registration {
        name: "transaction-pessimistic-locking",
        build: Builder::on_pool::<PessimisticLocking>,
    },
    Registration { name: "optimistic-locking", build: Builder::admitted::<OptimisticLocking> },
    Registration { name: "serializable", build: Builder::admitted::<Serializable> },
    Registration { name: batched::NAME, build: Builder::batched },
];

/// The name of the approach behind `PATCH /users/{id}/balance` where none is configured.
pub const DEFAULT: &str = batched::NAME;

/// The names of all approaches, in the order in which they are listed everywhere.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|registration| registration.name)
}

/// How changes are applied.
#[derive(Clone, Copy, Debug)]
pub struct ApproachOptions {
    /// The name of the approach behind `PATCH /users/{id}/balance`.
    pub default: &'static str,
    /// How long a change waits for another one with the same key.
    pub key_wait: Duration,
    /// How long a change waits for others before it is admitted to the attempts of a racing approach.
    pub admission_wait: Duration,
    /// How many lanes `batched` has.
    pub lanes: usize,
    /// How many changes may wait in one lane.
    pub lane_queue: usize,
    /// How many requests there may be at a time. One user has a share of them.
    pub in_flight: usize,
}

/// What all threads of a service share: the queues in which changes wait for each other. Clones
/// share them.
#[derive(Clone)]
pub struct Shared {
    options: ApproachOptions,
    keys: LocalLocks<(UserId, Key)>,
    /// Users whose row a racing approach is changing.
    racers: LocalLocks<UserId>,
    held: HeldUsers,
    /// Changes that wait somewhere else than in a lane: for a session, a key, an admission, a row.
    in_flight: Arc<Shares>,
    lanes: Arc<Lanes>,
    metrics: Arc<Metrics>,
}

impl Shared {
    /// Starts the lanes, on the current runtime and with sessions of their own.
    pub fn start(connector: &Connector, options: ApproachOptions) -> Self {
        let metrics = Arc::new(Metrics::default());
        let counters = metrics.of_lanes(batched::NAME);
        let lanes = Lanes::start(connector, options.lanes, options.lane_queue, &counters);
        Self {
            options,
            keys: LocalLocks::default(),
            racers: LocalLocks::default(),
            held: HeldUsers::default(),
            in_flight: Arc::new(Shares::of(options.in_flight)),
            lanes: Arc::new(lanes),
            metrics,
        }
    }

    /// The locks of keys. Every request with a key waits for it, whatever it asks for.
    pub(crate) fn keys(&self) -> &LocalLocks<(UserId, Key)> {
        &self.keys
    }

    /// The counters of the service.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How many changes wait in the lanes, and how many may.
    pub fn queued(&self) -> QueueUse {
        self.lanes.queued()
    }

    /// Decides on what still waits in the lanes, for `limit` at most, and ends them. Nothing may be
    /// applied after it.
    pub async fn close(&self, limit: Duration) {
        self.lanes.close(limit).await;
    }
}

/// What an approach is built from.
struct Builder {
    store: Store,
    shared: Shared,
    retries: Counter,
}

impl Builder {
    fn pooled<A: Pooled>(&self) -> OnPool<A> {
        OnPool::new(&self.store, &self.shared.held, &self.retries)
    }

    fn on_pool<A: Pooled>(&self) -> Arc<dyn Approach> {
        Arc::new(self.pooled::<A>())
    }

    fn admitted<A: Pooled>(&self) -> Arc<dyn Approach> {
        let Shared { racers, options, .. } = &self.shared;
        Arc::new(Admitted::new(self.pooled::<A>(), racers, options.admission_wait))
    }

    fn batched(&self) -> Arc<dyn Approach> {
        batched::build(&self.shared.lanes)
    }
}

/// The approaches, ready for use, on the sessions of one thread. Clones share them.
#[derive(Clone)]
pub struct Approaches {
    store: Store,
    shared: Shared,
    built: Arc<[Built]>,
    bulk: Arc<bulk::Parts>,
}

struct Built {
    approach: Arc<dyn Approach>,
    /// For changes of zero with a key. They only read, in the same way behind every approach.
    keyed_read: Arc<dyn Approach>,
    counters: ApproachCounters,
    /// Whether changes without a key wait in a lane.
    has_lane: bool,
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
        let build = |registration: &Registration| {
            let counters = shared.metrics.of(registration.name);
            let (store, shared) = (store.clone(), shared.clone());
            let builder = Builder { store, shared, retries: counters.retries.clone() };
            let approach = (registration.build)(&builder);
            let keyed_read = builder.on_pool::<OptimisticLocking>();
            let has_lane = registration.name == batched::NAME;
            Built { approach, keyed_read, counters, has_lane }
        };
        let built = ALL.iter().map(build).collect();
        let bulk = bulk::Parts {
            lanes: Arc::clone(&shared.lanes),
            keys: shared.keys.clone(),
            counters: shared.metrics.of(batched::NAME),
        };
        Self { store: store.clone(), shared: shared.clone(), built, bulk: Arc::new(bulk) }
    }

    /// The approach of that name in the route.
    pub fn get(&self, name: &str) -> Option<Chosen<'_>> {
        let position = ALL.iter().position(|registration| registration.name == name)?;
        Some(Chosen { all: self, built: &self.built[position] })
    }

    /// For many changes of a new request.
    pub fn bulk(&self) -> Bulk {
        Bulk::new(&self.bulk)
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
        let outcome = match self.enter(&change) {
            Ok(_place) => self.dispatch(change).await,
            Err(error) => Err(error),
        };
        self.built.counters.count(&outcome);
        outcome
    }

    /// Takes a place for a change that waits somewhere else than in a lane. Its connection is taken for as
    /// long, and one user must not take all of them. A lane counts its own.
    fn enter(&self, change: &Change) -> Result<Option<Reserved<'_>>, ChangeError> {
        if self.built.has_lane && change.key.is_none() && !change.amount.is_zero() {
            return Ok(None);
        }
        let place = self.all.shared.in_flight.try_take_all(vec![change.holders()]);
        place.map(Some).ok_or(ChangeError::Busy("too many changes of the user are in flight"))
    }

    /// A change with a key goes to its approach under the key's lock. A change that is answered "still
    /// running" was never on its way.
    fn dispatch(self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let Some(key) = change.key.clone() else { return self.dispatch_without_key(change) };
        let Shared { keys, options, .. } = &self.all.shared;
        let (keys, limit, user) = (keys.clone(), options.key_wait, change.user);
        let Built { approach, keyed_read, .. } = self.built;
        let chosen = Arc::clone(if change.amount.is_zero() { keyed_read } else { approach });
        // In a task of its own: the lock must last as long as the change, not as long as the client.
        Box::pin(detached(async move {
            let lock = keys.acquire((user, key), limit).await;
            let _lock = lock.map_err(|none| none.or(ChangeError::KeyInProgress))?;
            chosen.apply(change).await
        }))
    }

    fn dispatch_without_key(
        self,
        change: Change,
    ) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        if !change.amount.is_zero() {
            return self.built.approach.apply(change);
        }
        // A change of zero only reads, in the same way behind every approach.
        let store = self.all.store.clone();
        Box::pin(async move {
            let user = store.user(change.user).await?;
            Ok(Outcome::fresh(Decision::Accepted(user.balance)))
        })
    }
}
