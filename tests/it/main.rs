//! The one integration binary: everything that needs a running PostgreSQL, and the tester's own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod cluster;
mod conformance;
mod contract;
mod faults;
mod private_cluster;
mod service;
mod tester;
