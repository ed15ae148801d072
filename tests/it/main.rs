//! The one integration binary: everything that needs a running PostgreSQL.

mod cluster;
mod conformance;
mod contract;
mod faults;
mod private_cluster;
mod service;
