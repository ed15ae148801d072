//! The error of a command.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::service::StartError;
use crate::store::error::sqlstate;
use crate::store::schema::StoreError;

/// Why a command could not do its work. One line each.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The service did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The private PostgreSQL cannot be used.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The database cannot be brought up to date.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no cluster in the data folder.
    #[error(
        "there is no database in {} yet: `plimsoll migrate` makes it, and so does the first start \
         of the service", .0.display()
    )]
    NothingThere(PathBuf),
    /// Another instance holds the data folder, but its server did not become ready in time.
    #[error(
        "another instance uses the data folder {}, but its PostgreSQL is not ready: try again",
        .0.display()
    )]
    NotReady(PathBuf),
    /// The database did not answer, or refused the connection.
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(#[source] sqlx::Error),
    /// Tables or columns are missing.
    #[error("the schema of the database is out of date: run `plimsoll migrate` first ({0})")]
    NoSchema(#[source] sqlx::Error),
    /// The database failed during the check.
    #[error("the check was broken off: {0}")]
    BrokenOff(#[source] sqlx::Error),
    /// The output could not be written.
    #[error("cannot write the report: {0}")]
    Output(#[source] io::Error),
    /// A signal stopped the command.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
}

impl CommandError {
    pub(super) fn checking(error: sqlx::Error) -> Self {
        match sqlstate(&error).as_deref() {
            Some("42P01" | "42703") => Self::NoSchema(error), // undefined table, undefined column
            _ => Self::BrokenOff(error),
        }
    }
}
