//! The machines: their clocks, and the disk of the database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Executor, PgConnection};
use tokio::time::Instant;

use super::report::Verdict;
use super::subject::Subject;

/// The journal is stamped by the database's clock, and the log by the service's.
const SKEW_SECS_MAX: f64 = 1.0;

/// The commits that are timed. Beside a running service they cost it one flush each.
const COMMITS: u32 = 50;

/// Above this, 10,000 changes that wait for a commit each (`self`) take more than `POOL_WAIT_SECS` with its
/// default.
const COMMIT_MEDIAN_MAX: Duration = Duration::from_millis(10);

/// Above this, a batch takes so long that others at the same rows give up (`LOCK_WAIT_MILLIS`).
const COMMIT_MAX: Duration = Duration::from_millis(100);

pub(super) async fn clock(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let asked = SystemTime::now();
    let theirs: f64 =
        sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::double precision")
            .fetch_one(&mut *subject.connection)
            .await?;
    let round_trip = asked.elapsed().unwrap_or_default();
    let ours = asked.duration_since(UNIX_EPOCH).unwrap_or_default() + round_trip / 2;
    Ok(judge_skew(theirs - ours.as_secs_f64()))
}

fn judge_skew(seconds: f64) -> Verdict {
    let seen = format!("the database's is {seconds:+.3} s from that of this machine");
    if seconds.abs() <= SKEW_SECS_MAX {
        return Verdict::ok(seen);
    }
    Verdict::warn(seen, "let NTP (chrony, systemd-timesyncd) set the clocks of both machines")
}

pub(super) async fn commit_time(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let mut times = Vec::new();
    flush_at_commit(subject.connection).await?;
    for _ in 0..COMMITS {
        let began = Instant::now();
        // The smallest thing that is committed: a note in the WAL, which no table keeps. No right is
        // needed for it.
        let note = "SELECT pg_logical_emit_message(true, 'plimsoll doctor', '')";
        subject.connection.execute(note).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(judge_commits(times[times.len() / 2], times[times.len() - 1]))
}

/// As in the service's sessions.
async fn flush_at_commit(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let on = r"
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'";
    connection.execute(on).await?;
    Ok(())
}

fn judge_commits(median: Duration, longest: Duration) -> Verdict {
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let seen = format!(
        "{:.1} ms (median of {COMMITS}), {:.1} ms at most, with the way there and back",
        millis(median),
        millis(longest)
    );
    if median <= COMMIT_MEDIAN_MAX && longest <= COMMIT_MAX {
        return Verdict::ok(seen);
    }
    Verdict::warn(
        seen,
        "use a disk with a fast flush (power-loss protection), or raise LOCK_WAIT_MILLIS and \
         POOL_WAIT_SECS",
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn clocks_that_differ_and_commits_that_take_long_are_reported() {
        for (seconds, status) in [(0.9, Status::Ok), (-0.9, Status::Ok), (-1.1, Status::Warn)] {
            assert_eq!(judge_skew(seconds).status(), status, "{seconds}");
        }
        let millis = Duration::from_millis;
        assert_eq!(judge_commits(millis(10), millis(100)).status(), Status::Ok);
        assert_eq!(judge_commits(millis(11), millis(11)).status(), Status::Warn);
        assert_eq!(judge_commits(millis(1), millis(101)).status(), Status::Warn);
    }
}
