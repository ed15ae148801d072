//! Whether what was answered with success survives a crash, and a lost disk.

use super::report::Verdict;
use super::subject::{Subject, setting};

pub(super) async fn fsync(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    must_be_on(subject, "fsync").await
}

pub(super) async fn full_page_writes(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    must_be_on(subject, "full_page_writes").await
}

async fn must_be_on(subject: &mut Subject<'_>, name: &str) -> Result<Verdict, sqlx::Error> {
    let value = setting(subject.connection, name).await?;
    if value == "on" {
        return Ok(Verdict::ok("on"));
    }
    let seen = format!("{value}: a crash of the machine loses or corrupts acknowledged changes");
    Ok(Verdict::fail(seen, format!("ALTER SYSTEM SET {name} = on; then reload")))
}

/// The service never runs with `off` (it turns that on in its own sessions). Where standbys are
/// synchronous, the other values say how much of the way to them a commit waits for.
pub(super) async fn synchronous_commit(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let value = setting(subject.connection, "synchronous_commit").await?;
    let standbys = setting(subject.connection, "synchronous_standby_names").await?;
    Ok(judge_commit(&value, &standbys))
}

fn judge_commit(value: &str, standbys: &str) -> Verdict {
    let on = "ALTER SYSTEM SET synchronous_commit = on; then reload";
    if value == "off" {
        let seen = "off: Plimsoll turns it on for itself, but whoever else writes can lose commits";
        return Verdict::warn(seen, on);
    }
    if standbys.is_empty() {
        return Verdict::ok(format!("{value}, no synchronous standby"));
    }
    let seen = format!("{value}, synchronous standbys: {standbys}");
    match value {
        "local" => Verdict::warn(format!("{seen}; a commit waits for none of them"), on),
        "remote_write" => Verdict::warn(
            format!("{seen}; a commit may be lost if primary and standby lose power together"),
            on,
        ),
        _ => Verdict::ok(seen),
    }
}

pub(super) async fn data_checksums(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    Ok(match setting(subject.connection, "data_checksums").await?.as_str() {
        "on" => Verdict::ok("on"),
        _ => Verdict::warn(
            "off: corruption by the disk is served instead of detected",
            "stop the server and run pg_checksums --enable",
        ),
    })
}

pub(super) async fn archiving(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let level = setting(subject.connection, "wal_level").await?;
    let mode = setting(subject.connection, "archive_mode").await?;
    let is_failing: bool = sqlx::query_scalar(
        "SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) \
         FROM pg_stat_archiver",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(judge_archiving(&level, &mode, is_failing))
}

fn judge_archiving(level: &str, mode: &str, is_failing: bool) -> Verdict {
    let seen = format!("wal_level {level}, archive_mode {mode}");
    if level == "minimal" {
        let advice = "ALTER SYSTEM SET wal_level = replica; then restart";
        return Verdict::fail(format!("{seen}: neither a base backup nor a standby"), advice);
    }
    if is_failing {
        let seen = format!("{seen}: the last attempt failed, and the WAL piles up");
        return Verdict::fail(seen, "see last_failed_wal in pg_stat_archiver and the server's log");
    }
    if mode == "off" {
        return Verdict::warn(
            format!("{seen}: no recovery to a point in time, unless something streams the WAL"),
            "archive the WAL (archive_mode, archive_command), or receive it (pg_receivewal)",
        );
    }
    Verdict::ok(seen)
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn what_a_commit_waits_for_depends_on_the_standbys() {
        for (value, standbys, status) in [
            ("on", "", Status::Ok),
            ("local", "", Status::Ok),
            ("remote_apply", "a", Status::Ok),
            ("on", "ANY 1 (a, b)", Status::Ok),
            ("local", "a", Status::Warn),
            ("remote_write", "a", Status::Warn),
            ("off", "", Status::Warn),
            ("off", "a", Status::Warn),
        ] {
            assert_eq!(judge_commit(value, standbys).status(), status, "{value} {standbys}");
        }
    }

    #[test]
    fn an_archiver_that_fails_is_worse_than_none() {
        assert_eq!(judge_archiving("replica", "on", false).status(), Status::Ok);
        assert_eq!(judge_archiving("replica", "off", false).status(), Status::Warn);
        assert_eq!(judge_archiving("replica", "on", true).status(), Status::Fail);
        assert_eq!(judge_archiving("minimal", "off", false).status(), Status::Fail);
    }
}
