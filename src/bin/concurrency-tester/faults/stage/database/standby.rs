//! The standby: made of the primary, promoted when the primary is gone, and made anew.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use plimsoll::cluster::PrivateCluster;
use rustix::process::Signal;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::{Instant, sleep};

use super::{Databases, Host, POLL_EVERY, options};
use crate::faults::error::FaultError;

const SYNCHRONOUS_WITHIN: Duration = Duration::from_secs(60);

impl Databases {
    /// Kills the primary's server, for good. The other one goes on as the primary.
    ///
    /// `outage` passes in between. Returns when changes are accepted again.
    pub(crate) async fn fail_over(
        &self,
        outage: impl Future<Output = ()>,
    ) -> Result<(), FaultError> {
        self.signal_server(Signal::KILL);
        outage.await;
        let next = (self.primary.load(Ordering::Relaxed) + 1) % self.hosts.len();
        let promoted = promote(&self.hosts[next].cluster()).await;
        let promoted = promoted.map_err(|error| FaultError::new("promote the standby", error))?;
        if !promoted {
            return Err(FaultError::new("promote the standby", "it takes too long"));
        }
        self.primary.store(next, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the host that is down the standby of the new primary. Then each commit waits for it.
    pub(crate) async fn rebuild_standby(&self) -> Result<(), FaultError> {
        let rebuilding = async {
            let standby = self.make_standby().await?;
            self.other_host().replace(standby);
            self.wait_for_standby().await
        };
        rebuilding.await.map_err(|error| FaultError::new("make a standby", error))
    }

    fn other_host(&self) -> &Host {
        &self.hosts[(self.primary.load(Ordering::Relaxed) + 1) % self.hosts.len()]
    }

    /// A new cluster that follows the primary.
    pub(super) async fn make_standby(&self) -> Result<PrivateCluster, FaultError> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let data_dir = self.folder.join(format!("standby-{number}"));
        // The faults end processes, not the machine: what was written is there.
        let flags = ["--write-recovery-conf", "--no-sync"];
        self.primary().copy_to(&data_dir, &flags).await?;
        forget_standby(&data_dir.join("postgres/postgresql.auto.conf"))?;
        Ok(PrivateCluster::start(options(self.sort, data_dir, self.pg_bin.clone())).await?)
    }

    /// From now on, each commit waits for the standby. Returns when it does.
    pub(super) async fn wait_for_standby(&self) -> Result<(), FaultError> {
        let mut admin = self.admin().await?;
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        admin.execute("SELECT pg_reload_conf()").await?;
        let give_up = Instant::now() + SYNCHRONOUS_WITHIN;
        let query = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
        while !sqlx::query_scalar::<_, bool>(query).fetch_one(&mut admin).await? {
            if Instant::now() >= give_up {
                return Err(FaultError::new("wait for the standby", "it does not follow in 60 s"));
            }
            sleep(POLL_EVERY).await;
        }
        Ok(admin.close().await?)
    }
}

async fn promote(standby: &PrivateCluster) -> Result<bool, sqlx::Error> {
    let mut admin = standby.superuser_options("postgres").connect().await?;
    let promoted = sqlx::query_scalar("SELECT pg_promote()").fetch_one(&mut admin).await?;
    admin.close().await?;
    Ok(promoted)
}

/// The primary may have been told to wait for its standby before it was copied. Once the copy is promoted,
/// it has nobody to wait for.
fn forget_standby(auto: &Path) -> std::io::Result<()> {
    let text = fs::read_to_string(auto)?;
    let kept = text.lines().filter(|line| !line.starts_with("synchronous_standby_names"));
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    // In place, so that owner and mode stay.
    fs::write(auto, kept)
}
