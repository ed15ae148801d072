//! The one integration binary: everything that needs a running PostgreSQL, and the tester's own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod batched;
mod cluster;
mod conformance;
mod contract;
mod faults;
mod idempotency;
mod metrics;
mod openapi;
mod private_cluster;
mod properties;
mod service;
mod tester;
mod users;
mod verify;
