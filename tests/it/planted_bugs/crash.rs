//! A server that acknowledges commits before they are on the disk, and is killed under load.

use std::time::Duration;

use plimsoll::cluster::PrivateCluster;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::cluster::{fresh_folder, options_in};
use crate::faults::until;

/// One that leaves its log of commits in memory for ten seconds.
pub(super) async fn start() -> PrivateCluster {
    let mut options = options_in(&fresh_folder("unflushed"));
    for (name, value) in [
        ("synchronous_commit", "off"),
        ("wal_writer_delay", "10s"),
        ("wal_writer_flush_after", "1GB"),
        ("wal_buffers", "64MB"),
        ("max_connections", "200"),
    ] {
        options.settings.push((name.to_owned(), value.to_owned()));
    }
    PrivateCluster::start(options).await.expect("it starts")
}

/// Kills the server when there are so many entries, and starts it again.
pub(super) async fn crash(cluster: &PrivateCluster, pool: &PgPool, entries: i64) {
    until("the load begins", async || {
        let count =
            sqlx::query_scalar("SELECT count(*) FROM balance_changes").fetch_one(pool).await;
        count.is_ok_and(|count: i64| count >= entries)
    })
    .await;
    let pid = cluster.postmaster_pid().expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    while !cluster.restart_if_dead().await.expect("it starts again") {
        sleep(Duration::from_millis(5)).await;
    }
}
