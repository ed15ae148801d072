//! What production needs of a database and of a machine: `plimsoll doctor` looks, and changes nothing.
//!
//! One check is one function in `CHECKS`; everything iterates that list. A check says what it has seen,
//! whether that is all right, and otherwise what to change. It needs no right beyond those of a role that
//! only serves (`store/grants.rs`); what such a role cannot see is said and not guessed.

mod activity;
mod capacity;
mod durability;
mod machine;
mod network;
mod report;
mod roles;
mod server;
mod subject;

pub use capacity::sessions_of_one_instance;
pub use report::{Finding, Report, Status};
pub use subject::Subject;

use crate::store::session::BoxFuture;
use report::Verdict;

type Run = for<'a, 'b> fn(&'a mut Subject<'b>) -> BoxFuture<'a, Result<Verdict, sqlx::Error>>;

struct Check {
    name: &'static str,
    run: Run,
}

macro_rules! checks {
    ($($name:literal => $run:path,)*) => {
        &[$(Check { name: $name, run: |subject| Box::pin($run(subject)) },)*]
    };
}

/// All checks, in the order of the report.
static CHECKS: &[Check] = checks! {
    "server version" => server::version,
    "accepts changes" => server::accepts_changes,
    "schema" => server::schema,
    "fsync" => durability::fsync,
    "full_page_writes" => durability::full_page_writes,
    "synchronous_commit" => durability::synchronous_commit,
    "data checksums" => durability::data_checksums,
    "archiving" => durability::archiving,
    "role" => roles::role,
    "journal" => roles::journal,
    "schema rights" => roles::schema_rights,
    "sessions" => capacity::sessions,
    "idle transactions" => activity::idle_transactions,
    "long transactions" => activity::long_transactions,
    "prepared transactions" => activity::prepared_transactions,
    "replication slots" => activity::replication_slots,
    "autovacuum" => activity::autovacuum,
    "transaction ids" => activity::transaction_ids,
    "encryption" => network::encryption,
    "access" => network::access,
    "open files" => capacity::open_files,
    "listen queue" => capacity::listen_queue,
    "clock" => machine::clock,
    "commit time" => machine::commit_time,
};

/// The names of all checks, in the order of the report.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}

/// Runs all checks. One that the database answers with an error is a warning: it is not known.
///
/// # Errors
/// When the connection is lost.
pub async fn examine(mut subject: Subject<'_>) -> Result<Report, sqlx::Error> {
    let mut findings = Vec::with_capacity(CHECKS.len());
    for check in CHECKS {
        let verdict = match (check.run)(&mut subject).await {
            Ok(verdict) => verdict,
            Err(error @ sqlx::Error::Database(_)) => {
                Verdict::warn(format!("not known: {error}"), "see the database's message")
            }
            Err(error) => return Err(error),
        };
        findings.push(Finding::new(check.name, verdict));
    }
    Ok(Report { findings })
}
