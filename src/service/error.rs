//! The error of a start.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::config::ConfigError;
use crate::store::schema::StoreError;

/// Why the service did not start. One line each.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file with tokens or a certificate is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The private PostgreSQL did not start.
    #[error("DATABASE_URL is not set, and the private PostgreSQL cannot be used: {0}")]
    Cluster(#[from] ClusterError),
    /// The database is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread or its runtime could not be created.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
    /// It was told to stop before it was ready.
    #[error("stopped before the start was complete")]
    Stopped,
    /// The service cannot listen on its address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address from the configuration.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}
