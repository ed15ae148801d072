//! Why the faults could not be made. Not a finding about the service.

use std::fmt;

/// What could not be done, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    #[error("cannot {what}: {why}")]
    Failed { what: &'static str, why: String },
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    Cluster(#[from] plimsoll::cluster::ClusterError),
    #[error("the database says: {0}")]
    Database(#[from] sqlx::Error),
}

impl FaultError {
    pub(crate) fn new(what: &'static str, why: impl fmt::Display) -> Self {
        Self::Failed { what, why: why.to_string() }
    }
}
