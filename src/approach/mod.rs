//! The approaches: ways to change one balance, side by side behind one contract.
//!
//! # How to add one
//! Write `approach/<name>.rs` with a type that implements [`Pooled`] (or [`Approach`] itself, where
//! one connection per change is not how it works), and add its line to [`ALL`]. The route, the
//! conformance tests and the concurrency tester iterate that list.
//!
//! # What each must keep
//! The line: no balance below zero, whoever else changes it at that moment, through whichever
//! approach. The truth: an accepted change answers with its own resulting balance, and a refused
//! one was unaffordable at some moment between request and answer. Nothing half-done: whatever is
//! not answered with a balance has changed nothing, unless the answer says "outcome unknown".

mod guarded_update;
mod keys;
mod pessimistic;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::task::JoinHandle;

use crate::balance::{Change, ChangeError, Decision, Outcome};
use crate::store::idempotency::{self, look};
use crate::store::retry::{Failure, Policy, Tries};
use crate::store::{BoxFuture, Store, users};
use keys::RunningKeys;

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
    build: fn(&Store) -> Arc<dyn Approach>,
}

/// All approaches, in the order in which they are listed everywhere.
pub static ALL: [Entry; 2] = [
    Entry { name: "self", build: on_pool::<guarded_update::GuardedUpdate> },
    Entry {
        name: "transaction-pessimistic-locking",
        build: on_pool::<pessimistic::PessimisticLocking>,
    },
];

/// The name of the approach behind `PATCH /users/{id}/balance` where none is configured.
pub const DEFAULT: &str = "self";

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
}

/// The approaches of one running service, ready for use. Clones share them.
#[derive(Clone)]
pub struct Approaches {
    store: Store,
    keys: RunningKeys,
    options: ApproachOptions,
    built: Arc<[Arc<dyn Approach>]>,
}

/// One approach of a running service.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    all: &'a Approaches,
    approach: &'a Arc<dyn Approach>,
}

impl Approaches {
    /// Builds every approach of [`ALL`] on `store`.
    pub fn new(store: &Store, options: ApproachOptions) -> Self {
        let built = ALL.iter().map(|entry| (entry.build)(store)).collect();
        Self { store: store.clone(), keys: RunningKeys::default(), options, built }
    }

    /// The approach of that name in the route.
    pub fn get(&self, name: &str) -> Option<Chosen<'_>> {
        let position = ALL.iter().position(|entry| entry.name == name)?;
        Some(Chosen { all: self, approach: &self.built[position] })
    }

    /// The approach of the routes that name none.
    pub fn default(&self) -> Chosen<'_> {
        self.get(self.options.default).expect("the configuration names an approach of the list")
    }
}

impl Chosen<'_> {
    /// Decides on one change, and applies it where it is affordable. With a key, at most once.
    ///
    /// The future may be dropped at any time; the change then still happens in full or not at all.
    pub async fn apply(self, change: Change) -> Result<Outcome, ChangeError> {
        match change.key.clone() {
            None => self.decide(change).await,
            Some(key) => {
                let (keys, limit) = (self.all.keys.clone(), self.all.options.key_wait);
                let (user, deciding) = (change.user, self.decide(change));
                // In a task of its own: the turn must last as long as the change, not as long as
                // the client.
                let task: JoinHandle<Result<Outcome, ChangeError>> = tokio::spawn(async move {
                    let _turn = keys.turn(user, key, limit).await?;
                    deciding.await
                });
                task.await.unwrap_or_else(|panic| Err(ChangeError::Internal(panic.into())))
            }
        }
    }

    fn decide(self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        if change.amount.is_zero() {
            // Zero changes nothing: it reads, the same way for every approach.
            return on_connection(&self.all.store, Arc::new(Read), change);
        }
        self.approach.apply(change)
    }
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

/// Gives a [`Pooled`] approach its connections.
struct OnPool<A> {
    approach: Arc<A>,
    store: Store,
}

fn on_pool<A: Pooled>(store: &Store) -> Arc<dyn Approach> {
    Arc::new(OnPool { approach: Arc::new(A::default()), store: store.clone() })
}

impl<A: Pooled> Approach for OnPool<A> {
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
        on_connection(&self.store, Arc::clone(&self.approach), change)
    }
}

fn on_connection<A: Pooled>(
    store: &Store,
    approach: Arc<A>,
    change: Change,
) -> BoxFuture<'static, Result<Outcome, ChangeError>> {
    let store = store.clone();
    Box::pin(async move {
        store.perform(move |connection| Box::pin(try_out(approach, connection, change))).await
    })
}

async fn try_out<A: Pooled>(
    approach: Arc<A>,
    connection: &mut PgConnection,
    change: Change,
) -> Result<Outcome, ChangeError> {
    let mut tries = Tries::new(A::POLICY);
    loop {
        let result = approach.attempt(connection, &change).await;
        if let Some(end) = tries.settle(result).await {
            return end;
        }
    }
}

/// A change of zero. With a key, the balance that it read is kept like any other outcome.
#[derive(Default)]
struct Read;

impl Pooled for Read {
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> Result<Outcome, Failure> {
        if change.key.is_none() {
            let balance = users::balance(connection, change.user).await?;
            return Ok(Outcome::fresh(Decision::Accepted(balance)));
        }
        let seen = look(connection, change).await?;
        if let Some(prior) = seen.prior {
            return Ok(prior.replay(change.amount)?);
        }
        let decision = Decision::Accepted(seen.balance);
        idempotency::keep(connection, change, decision).await.map_err(Failure::at_commit)?;
        Ok(Outcome::fresh(decision))
    }
}
