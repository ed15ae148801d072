//! The one integration binary: everything that needs a running PostgreSQL, and the tester's own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod access;
mod backup;
mod balance_at;
mod batched;
mod bulk;
mod cluster;
mod conformance;
mod contract;
mod dashboards;
mod failover;
mod faults;
mod floods;
mod heads;
mod held;
mod holds;
mod idempotency;
mod journal;
mod logs;
mod malformed;
mod metrics;
mod observe;
mod openapi;
mod operations;
mod outcomes;
mod places;
mod planted;
mod private_cluster;
mod process;
mod properties;
mod proxy;
mod service;
mod sessions;
mod standby;
mod statements;
mod stopping;
mod stream;
mod tester;
mod upgrade;
mod users;
mod verify;
