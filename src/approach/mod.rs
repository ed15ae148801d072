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
mod pessimistic;

use std::sync::Arc;

use sqlx::PgConnection;

use crate::balance::{Balance, Change, ChangeError};
use crate::store::{BoxFuture, Store, users};

/// One way to apply a change.
pub trait Approach: Send + Sync + 'static {
    /// Applies one change and returns the balance right after it.
    ///
    /// The future may be dropped at any time; the change then still happens in full or not at all.
    fn apply(&self, change: Change) -> BoxFuture<'_, Result<Balance, ChangeError>>;
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

/// The names of all approaches, in the order in which they are listed everywhere.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|entry| entry.name)
}

/// The approaches of one running service, ready for use. Clones share them.
#[derive(Clone)]
pub struct Approaches(Arc<[Arc<dyn Approach>]>);

impl Approaches {
    /// Builds every approach of [`ALL`] on `store`.
    pub fn new(store: &Store) -> Self {
        Self(ALL.iter().map(|entry| (entry.build)(store)).collect())
    }

    /// The approach of that name in the route.
    pub fn get(&self, name: &str) -> Option<&dyn Approach> {
        let position = ALL.iter().position(|entry| entry.name == name)?;
        Some(&*self.0[position])
    }
}

/// An approach that does its work on one connection per change.
trait Pooled: Send + Sync + Default + 'static {
    /// Applies a change that is not zero.
    fn apply(
        &self,
        connection: &mut PgConnection,
        change: &Change,
    ) -> impl Future<Output = Result<Balance, ChangeError>> + Send;
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
    fn apply(&self, change: Change) -> BoxFuture<'_, Result<Balance, ChangeError>> {
        let approach = Arc::clone(&self.approach);
        Box::pin(self.store.perform(move |connection| {
            Box::pin(async move {
                // Zero changes nothing: it reads, the same way for every approach.
                if change.amount.is_zero() {
                    users::balance(connection, change.user).await
                } else {
                    approach.apply(connection, &change).await
                }
            })
        }))
    }
}
