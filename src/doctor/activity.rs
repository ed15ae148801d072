//! What makes a hot row slower by the minute, or fills the disk: transactions and slots that keep old
//! versions of rows, and an autovacuum that does not run.

use super::report::Verdict;
use super::subject::{Subject, setting};

/// A transaction of the service takes milliseconds; `verify` and a dump take longer, but not for ever.
const LONG_SECS: i64 = 300;

/// The WAL that a slot may keep before it is reported.
const RETAINED_BYTES_MAX: i64 = 1024 * 1024 * 1024;

/// PostgreSQL acts by itself at 200 million, and refuses to write shortly before 2,100 million.
const AGE_MAX: i64 = 1_000_000_000;

pub(super) async fn idle_transactions(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let millis = setting(subject.connection, "idle_in_transaction_session_timeout").await?;
    Ok(match millis.parse::<i64>() {
        Ok(0) => Verdict::warn(
            "never ended: whoever forgets one (psql, a script) keeps its rows locked",
            "ALTER DATABASE … SET idle_in_transaction_session_timeout = '15s'",
        ),
        _ => Verdict::ok(format!("ended after {millis} ms")),
    })
}

/// Of sessions of other roles, a role sees these times only as a member of `pg_read_all_stats`.
pub(super) async fn long_transactions(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let (longest, hidden): (i64, i64) = sqlx::query_as(
        r"
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::bigint,
       count(*) FILTER (WHERE usesysid IS NOT NULL AND query = '<insufficient privilege>')
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(judge_long(longest, hidden))
}

fn judge_long(longest: i64, hidden: i64) -> Verdict {
    let hidden = match hidden {
        0 => String::new(),
        some => format!("; {some} sessions of other roles are hidden from this one"),
    };
    let seen = format!("the longest has run for {longest} s{hidden}");
    if longest > LONG_SECS {
        return Verdict::warn(
            format!("{seen}, and keeps every old version of a hot row"),
            "find it by xact_start in pg_stat_activity, and end it with pg_terminate_backend",
        );
    }
    Verdict::ok(seen)
}

pub(super) async fn prepared_transactions(
    subject: &mut Subject<'_>,
) -> Result<Verdict, sqlx::Error> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_prepared_xacts")
        .fetch_one(&mut *subject.connection)
        .await?;
    Ok(match count {
        0 => Verdict::ok("none"),
        _ => Verdict::warn(
            format!("{count}: they keep locks and old versions of rows until somebody ends them"),
            "COMMIT PREPARED or ROLLBACK PREPARED those of pg_prepared_xacts that nobody ends",
        ),
    })
}

pub(super) async fn replication_slots(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let (slots, inactive, retained): (i64, i64, i64) = sqlx::query_as(
        r"
SELECT count(*), count(*) FILTER (WHERE NOT active),
       coalesce(max(pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                ELSE pg_current_wal_lsn() END, restart_lsn)), 0)::bigint
FROM pg_replication_slots",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(judge_slots(slots, inactive, retained))
}

fn judge_slots(slots: i64, inactive: i64, retained: i64) -> Verdict {
    let megabytes = retained / (1024 * 1024);
    let seen = format!("{slots}, of which {inactive} inactive; at most {megabytes} MB of WAL kept");
    if inactive == 0 && retained <= RETAINED_BYTES_MAX {
        return Verdict::ok(seen);
    }
    Verdict::warn(
        seen,
        "start what reads the slot, or pg_drop_replication_slot it: the WAL it keeps fills the disk \
         (max_slot_wal_keep_size bounds it)",
    )
}

pub(super) async fn autovacuum(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let is_on = setting(subject.connection, "autovacuum").await? == "on"
        && setting(subject.connection, "track_counts").await? == "on";
    let without: Option<Vec<String>> = sqlx::query_scalar(
        r"
SELECT array_agg(relname::text ORDER BY relname) FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
  AND reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off']",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(match (is_on, without) {
        (true, None) => Verdict::ok("on"),
        (true, Some(tables)) => Verdict::fail(
            format!("off for {}", tables.join(", ")),
            "ALTER TABLE … RESET (autovacuum_enabled)",
        ),
        (false, _) => Verdict::fail(
            "off: tables grow, plans age, and transaction ids run out",
            "ALTER SYSTEM SET autovacuum = on and track_counts = on; then reload",
        ),
    })
}

pub(super) async fn transaction_ids(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let age: i64 = sqlx::query_scalar("SELECT max(age(datfrozenxid))::bigint FROM pg_database")
        .fetch_one(&mut *subject.connection)
        .await?;
    Ok(judge_age(age))
}

fn judge_age(age: i64) -> Verdict {
    let seen = format!("the oldest database is {age} transactions old");
    if age > AGE_MAX {
        return Verdict::fail(
            format!("{seen}; the server stops at 2,100 million"),
            "find what holds vacuum back (long transactions, slots), then VACUUM",
        );
    }
    Verdict::ok(seen)
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn what_takes_long_to_come_about_is_judged() {
        assert_eq!(judge_long(LONG_SECS, 0).status(), Status::Ok);
        assert_eq!(judge_long(LONG_SECS + 1, 0).status(), Status::Warn);
        assert_eq!(judge_age(AGE_MAX).status(), Status::Ok);
        assert_eq!(judge_age(AGE_MAX + 1).status(), Status::Fail);
        assert_eq!(judge_slots(1, 0, RETAINED_BYTES_MAX).status(), Status::Ok);
        assert_eq!(judge_slots(1, 0, RETAINED_BYTES_MAX + 1).status(), Status::Warn);
        assert_eq!(judge_slots(1, 1, 0).status(), Status::Warn);
    }
}
