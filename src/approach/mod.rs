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
mod pooled;
mod serializable;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::task::JoinHandle;

use crate::balance::{Change, ChangeError, Decision, Key, Outcome, UserId};
use crate::metrics::{Metrics, Tally};
use crate::store::error::{Failure, Sent};
use crate::store::held::HeldUsers;
use crate::store::keys::load;
use crate::store::session::Connector;
use crate::store::{BoxFuture, Store};
use batched::Lanes;
use deciding::{Decided, decide_and_write};
use pooled::{Admitted, OnPool, Pooled};
use turns::Turns;

/// One way to apply a change.
pub trait Approach: Send + Sync + 'static {
    /// Decides on one change that is not zero, and applies it where it is affordable.
    ///
    /// It may be on its way as soon as this is called, before the future is polled: whatever it has
    /// to wait for is waited for before the call. The future may be dropped at any time; the change
    /// then still happens in full or not at all.
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
    /// Whose row is held by somebody else.
    held: HeldUsers,
    lanes: Arc<Lanes>,
    metrics: Arc<Metrics>,
}

impl Shared {
    /// Starts the lanes, on the current runtime and with sessions of their own.
    pub fn start(connector: &Connector, options: ApproachOptions) -> Self {
        let metrics = Arc::new(Metrics::default());
        let tally = metrics.of_lanes(batched::NAME);
        let lanes = Lanes::start(connector, options.lanes, options.lane_queue, &tally);
        let (keys, racers, held) = (Turns::default(), Turns::default(), HeldUsers::default());
        Self { options, keys, racers, held, lanes: Arc::new(lanes), metrics }
    }

    /// Decides on what still waits in the lanes, for `limit` at most, and ends them. Nothing may be
    /// applied after it.
    pub async fn close(&self, limit: Duration) {
        self.lanes.close(limit).await;
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
    /// For changes of zero with a key, which are the same for every approach.
    keyed_read: OnPool<KeyedRead>,
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
            let keyed_read = OnPool::new(store, shared, &tally);
            Built { approach: (entry.build)(store, shared, &tally), keyed_read, tally }
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

    /// A change with a key is not handed over to its approach before the key's turn has come: one
    /// that is answered "still running" must never have been on its way.
    fn in_its_turn(self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        let Some(key) = change.key.clone() else { return self.decide(change) };
        let Shared { keys, options, .. } = &self.all.shared;
        let (keys, limit, user) = (keys.clone(), options.key_wait, change.user);
        let keyed: Arc<dyn Approach> = if change.amount.is_zero() {
            Arc::new(self.built.keyed_read.clone())
        } else {
            Arc::clone(&self.built.approach)
        };
        // In a task of its own: the turn must last as long as the change, not as long as the client.
        Box::pin(detached(async move {
            let turn = keys.take((user, key), limit).await;
            let _turn = turn.map_err(|_| ChangeError::KeyInProgress)?;
            keyed.apply(change).await
        }))
    }

    /// Without a key.
    fn decide(self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        if !change.amount.is_zero() {
            return self.built.approach.apply(change);
        }
        // Zero changes nothing: it reads, the same way for every approach.
        let store = self.all.store.clone();
        Box::pin(async move {
            let balance = store.balance(change.user).await?;
            Ok(Outcome::fresh(Decision::Accepted(balance)))
        })
    }
}

/// Runs to completion even if the caller is dropped.
async fn detached(
    work: impl Future<Output = Result<Outcome, ChangeError>> + Send + 'static,
) -> Result<Outcome, ChangeError> {
    let task: JoinHandle<_> = tokio::spawn(work);
    // It panicked: nobody knows how far it came.
    task.await.unwrap_or_else(|panic| Err(ChangeError::OutcomeUnknown(panic.into())))
}

fn on_pool<A: Pooled>(store: &Store, shared: &Shared, tally: &Tally) -> Arc<dyn Approach> {
    Arc::new(OnPool::<A>::new(store, shared, tally))
}

fn admitted<A: Pooled>(store: &Store, shared: &Shared, tally: &Tally) -> Arc<dyn Approach> {
    Arc::new(Admitted::<A>::new(store, shared, tally))
}

/// A change of zero with a key: the balance that it read is kept like any other outcome.
#[derive(Default)]
struct KeyedRead;

impl Pooled for KeyedRead {
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        let loaded = load(connection, change).await?;
        decide_and_write(connection, change, loaded, Sent::Commit).await.map(Decided::outcome)
    }
}
