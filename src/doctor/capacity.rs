//! Whether database and machine have room for what is configured.

use super::report::Verdict;
use super::subject::Subject;
use crate::config::Config;

/// The sessions that one instance opens at most.
pub fn sessions_of_one_instance(config: &Config) -> u32 {
    let homes = config.pool.homes(config.workers);
    let pooled: u32 = (0..homes)
        .map(|number| config.pool.of_home(number, homes))
        .map(|share| share.size + share.reads)
        .sum();
    let lanes = u32::try_from(config.approaches.lanes).unwrap_or(u32::MAX);
    // The lane of operations, the expiry of keys, the sweep of holds, the readiness check, the metrics
    // of the database, and the feed of events.
    const OTHERS: u32 = 6;
    pooled.saturating_add(lanes).saturating_add(OTHERS)
}

pub(super) async fn sessions(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    // Limits of -1 mean none. The reserve of PostgreSQL 16 and later is not there before.
    let (places, others): (i64, i64) = sqlx::query_as(
        r"
SELECT least(
           current_setting('max_connections')::bigint
               - current_setting('superuser_reserved_connections')::bigint
               - coalesce(current_setting('reserved_connections', true)::bigint, 0),
           (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
           (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())),
       (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name NOT LIKE 'plimsoll%')",
    )
    .fetch_one(&mut *subject.connection)
    .await?;
    Ok(judge_sessions(sessions_of_one_instance(subject.config), subject.instances, places, others))
}

fn judge_sessions(each: u32, instances: u32, places: i64, others: i64) -> Verdict {
    let of = |instances: i64| i64::from(each) * instances;
    let instances = i64::from(instances);
    let free = places - others;
    let seen = format!(
        "{each} for each of {instances} instances; {places} places, of which others use {others}"
    );
    let advice = format!(
        "raise max_connections (and the role's and the database's connection limits), or lower \
         POOL_SIZE, READ_POOL_SIZE and LANES: {} places are needed with one more instance",
        of(instances + 1)
    );
    if of(instances) > free {
        Verdict::fail(seen, advice)
    } else if of(instances + 1) > free {
        Verdict::warn(format!("{seen}; no room for one more during an upgrade"), advice)
    } else {
        Verdict::ok(seen)
    }
}

pub(super) async fn open_files(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    /// As in `main.rs`: sessions, listener, log.
    const OTHERS: u64 = 128;
    let needed = subject.config.http.connections as u64 + OTHERS;
    Ok(match rlimit::getrlimit(rlimit::Resource::NOFILE) {
        Ok((_, hard)) if hard >= needed => Verdict::ok(format!("{hard}, {needed} are needed")),
        Ok((_, hard)) => Verdict::fail(
            format!("{hard}, but MAX_CONNECTIONS and the rest need {needed}"),
            "raise the hard limit: LimitNOFILE (systemd), ulimits (Docker), ulimit -Hn (shell)",
        ),
        Err(error) => Verdict::warn(format!("not known: {error}"), "see ulimit -Hn"),
    })
}

pub(super) async fn listen_queue(subject: &mut Subject<'_>) -> Result<Verdict, sqlx::Error> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let Some(most) = text.ok().and_then(|text| text.trim().parse::<usize>().ok()) else {
        return Ok(Verdict::ok("not known on this system"));
    };
    Ok(judge_listen_queue(most, subject.config.http.connections))
}

fn judge_listen_queue(most: usize, connections: usize) -> Verdict {
    /// Linux' default. With it, a burst of 10,000 connections is accepted within a second.
    const ENOUGH: usize = 4096;
    if most >= connections.min(ENOUGH) {
        return Verdict::ok(format!("{most} connections may wait to be accepted"));
    }
    Verdict::warn(
        format!("only {most} connections may wait to be accepted; more wait for a second at least"),
        format!("sysctl -w net.core.somaxconn={ENOUGH}, and the same below /etc/sysctl.d"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn an_upgrade_needs_room_for_one_more_instance() {
        assert_eq!(judge_sessions(16, 2, 97, 3).status(), Status::Ok);
        assert_eq!(judge_sessions(16, 2, 48, 0).status(), Status::Ok);
        assert_eq!(judge_sessions(16, 2, 48, 1).status(), Status::Warn);
        assert_eq!(judge_sessions(16, 2, 32, 0).status(), Status::Warn);
        assert_eq!(judge_sessions(16, 2, 32, 1).status(), Status::Fail);
    }

    #[test]
    fn a_short_listen_queue_is_enough_for_few_connections() {
        assert_eq!(judge_listen_queue(128, 16_384).status(), Status::Warn);
        assert_eq!(judge_listen_queue(4096, 16_384).status(), Status::Ok);
        assert_eq!(judge_listen_queue(128, 100).status(), Status::Ok);
    }
}
