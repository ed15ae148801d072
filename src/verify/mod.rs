//! `plimsoll verify`: proves that the journal and the balances agree.
//!
//! Every invariant is checked, not a sample, and none is taken from the schema's constraints: a
//! constraint says what could be written, not what a restored dump or an edit by hand has left.
//!
//! # One snapshot
//! All statements run in one `REPEATABLE READ READ ONLY` transaction. So they see one moment, and
//! an approach that commits balance, journal row and key together is seen in full or not at all,
//! however busy the service is. Nothing is locked against writers: `verify` takes only the locks of
//! a `SELECT`.
//!
//! # What it costs
//! The snapshot is held for as long as the check takes: on two cores about a second for a million
//! journal rows, and another one or two where a million keys are stored ([`Report::snapshot_ms`]
//! says how long it was). For that time no dead version of a hot row can be pruned, so its changes
//! get slower the longer it lasts, and are fast again with the first ones afterwards. A second of it
//! does not show: one row changed 3,700 times a second by 8 sessions stayed within its noise. For
//! hundreds of millions of rows check a standby, where it is allowed as well.
//!
//! No index exists for its sake. Each statement reads its tables once or twice, and only what is
//! wrong leaves the server.

mod journal;
mod keys;
mod report;
mod report_text;
mod totals;

use std::time::Instant;

use sqlx::{Connection, PgConnection};

pub use report::{FIRST_MAX, Found, Kind, Report, Verdict, Violation};

use report::Findings;
use totals::Totals;

/// Checks all invariants in one snapshot, which it holds for the whole time.
///
/// What it finds is in the report; an error only means that it could not look. Dropping the future
/// leaves a statement running on the connection: close the connection, too.
///
/// # Errors
/// Whatever the database answers; without the schema that is SQLSTATE 42P01 (no such table).
pub async fn verify(connection: &mut PgConnection) -> Result<Report, sqlx::Error> {
    let started = Instant::now();
    let mut snapshot =
        connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    tune(&mut snapshot).await?;
    let totals = Totals::count(&mut snapshot).await?;
    let mut findings = Findings::default();
    journal::check(&mut snapshot, &mut findings).await?;
    keys::check_accepted(&mut snapshot, &mut findings).await?;
    keys::check_creations(&mut snapshot, &mut findings).await?;
    snapshot.rollback().await?;
    Report::new(&totals, started.elapsed(), findings)
}

/// For this transaction only: a service's time limit is not meant for a walk over everything, sorts
/// of some million rows stay in memory, and compiling the statements takes longer than it saves.
async fn tune(snapshot: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        r"
        SELECT
            set_config('statement_timeout', '0', TRUE),
            set_config('jit', 'off', TRUE),
            set_config(
                'work_mem',
                CASE
                    WHEN pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB')
                    THEN '64MB'
                    ELSE current_setting('work_mem')
                END,
                TRUE
            )
        ",
    )
    .persistent(false)
    .execute(snapshot)
    .await?;
    Ok(())
}
