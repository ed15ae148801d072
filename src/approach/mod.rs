//! The approaches: ways to change one balance, side by side behind one contract.
//!
//! # How to add one
//! Write `approach/<name>.rs` with a type that implements `Pooled` (or [`Approach`] itself, where it
//! does not use one session per change), and add its line to [`registry::ALL`]. The route, the
//! conformance tests and the concurrency tester iterate that list.
//!
//! # What each must keep
//! - The line: no balance drops below zero, whichever approaches run concurrently.
//! - The truth: an accepted change is answered with its own resulting balance, and a refused one was
//!   unaffordable at some moment between request and answer.
//! - Nothing half-done: an error means that nothing was applied, unless it says "outcome unknown".

mod batched;
pub mod bulk;
mod guarded_update;
mod optimistic;
mod pessimistic;
mod pooled;
mod read_then_write;
pub mod registry;
mod serializable;

use crate::ledger::{Change, ChangeError, Outcome};
use crate::store::session::BoxFuture;

/// One way to apply a change.
pub trait Approach: Send + Sync + 'static {
    /// Decides on one change that is not zero, and applies it where it is affordable.
    ///
    /// The change may be on its way as soon as this is called, before the future is polled. So
    /// callers do all their waiting before the call. The future may be dropped at any time; the
    /// change then still happens in full or not at all.
    fn apply(&self, change: Change) -> BoxFuture<'static, Result<Outcome, ChangeError>>;
}
