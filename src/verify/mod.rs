//! `plimsoll verify`: proves that the journal, the balances, the holds and the keys agree.
//!
//! Every invariant is checked on every row. None is inferred from the constraints of the schema: a
//! constraint limits what can be written, not what a restored dump or a manual edit has left.
//!
//! # One snapshot
//! All statements run in one `REPEATABLE READ READ ONLY` transaction, so they see one moment of the
//! database. A commit of balance, journal row and key is visible in full or not at all, even under
//! load. Writers are never blocked: `verify` takes only the locks of a `SELECT`.
//!
//! # Cost
//! The check holds its snapshot to the end ([`Report::snapshot_ms`]). On two cores, a million
//! journal rows take two to three seconds, and a million stored keys three more. Rows of a transfer
//! or of a hold take twice as long as those of a change: they are compared with the other side, or
//! with the hold. Meanwhile the
//! server cannot prune dead versions of a hot row, so changes of this row get slower with time.
//! They are fast again right after the check. One second has no measurable effect: a row with 3,700
//! changes a second by 8 sessions stayed within its noise. For hundreds of millions of rows, check
//! a standby; `verify` runs there as well.
//!
//! No index exists only for `verify`. Each statement reads its tables once or twice, and only
//! violations leave the server.

mod holds;
mod journal;
mod keys;
mod peers;
mod report;
mod report_text;
mod totals;

use std::time::Instant;

use sqlx::{Connection, PgConnection};

pub use report::{FIRST_MAX, Found, Kind, Report, Verdict, Violation};

use report::Findings;
use totals::Totals;

/// Checks all invariants in one snapshot, which is held to the end.
///
/// The report lists the violations; an error means only that the check failed to run. Dropping the
/// future leaves a statement running on the connection: close the connection, too.
///
/// # Errors
/// The error of the database. A missing schema is SQLSTATE 42P01 (no such table).
pub async fn verify(connection: &mut PgConnection) -> Result<Report, sqlx::Error> {
    let started = Instant::now();
    let mut snapshot =
        connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    tune(&mut snapshot).await?;
    let totals = Totals::count(&mut snapshot).await?;
    let mut findings = Findings::default();
    journal::check(&mut snapshot, &mut findings).await?;
    peers::check(&mut snapshot, &mut findings).await?;
    holds::check_sums(&mut snapshot, &mut findings).await?;
    holds::check_entries(&mut snapshot, &mut findings).await?;
    keys::check_accepted(&mut snapshot, &mut findings).await?;
    keys::check_payees(&mut snapshot, &mut findings).await?;
    keys::check_creations(&mut snapshot, &mut findings).await?;
    snapshot.rollback().await?;
    Report::new(&totals, started.elapsed(), findings)
}

/// Settings for this transaction only. The service's time limit does not suit a scan of all rows,
/// sorts of some million rows should stay in memory, and compiling the statements costs more time
/// than it saves.
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
