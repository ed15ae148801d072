//! The error of a command.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::service::StartError;
use crate::store::error::sqlstate;
use crate::store::grants::GrantError;
use crate::store::schema::StoreError;

/// Why a command could not do its work. One line each.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is documented by its message")]
pub enum CommandError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("DATABASE_URL is not set, and the private PostgreSQL cannot be used: {0}")]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "there is no database in {} yet: `plimsoll migrate` makes it, and so does the first start \
         of the service", .0.display()
    )]
    NothingThere(PathBuf),
    #[error(
        "another instance uses the data folder {}, but its PostgreSQL is not ready: try again",
        .0.display()
    )]
    NotReady(PathBuf),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(#[source] sqlx::Error),
    #[error("the schema of the database is out of date: run `plimsoll migrate` first ({0})")]
    NoSchema(#[source] sqlx::Error),
    #[error("the check was broken off: {0}")]
    BrokenOff(#[source] sqlx::Error),
    #[error("cannot write the report: {0}")]
    Output(#[source] io::Error),
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
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
