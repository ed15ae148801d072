//! The database of `migrate` and `verify`.
//!
//! With `DATABASE_URL`, they connect to that server. Without it, they use the private cluster. If a
//! service holds the data folder, they share its running server; otherwise they start the server
//! and stop it afterwards. While such a command holds the data folder, a service that is started on
//! it reports that the folder is in use.

use sqlx::postgres::PgConnectOptions;
use tokio::time::{Duration, Instant};

use super::error::CommandError;
use super::signals::Signals;
use crate::cluster::{self, ClusterError, ClusterOptions, PrivateCluster, SERVICE_DATABASE};
use crate::config::{Config, DatabaseChoice};
use crate::store::hosts::Hosts;
use crate::store::session::Connector;

/// How long to wait for the server of another instance before checking whether it still holds the
/// data folder.
const ATTACH_STEP: Duration = Duration::from_millis(250);

/// Runs `work` on the configured database. SIGINT and SIGTERM interrupt it. A server that was
/// started for it is stopped in every case.
pub(super) async fn on_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(PgConnectOptions) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let mut signals = Signals::listen()?;
    let (options, started) = match &config.database {
        DatabaseChoice::Url(hosts) => (host_of(hosts, config).await?, None),
        DatabaseChoice::Private(cluster) => {
            reach(cluster, config.pool.connect, &mut signals).await?
        }
    };
    let result = tokio::select! {
        result = work(options) => result,
        signal = signals.next() => Err(CommandError::Interrupted(signal)),
    };
    if let Some(cluster) = started {
        cluster.stop().await?;
    }
    result
}

/// Of several hosts, the one that accepts changes. A single one is taken as it is: it may be a standby
/// that is to be verified.
async fn host_of(hosts: &Hosts, config: &Config) -> Result<PgConnectOptions, CommandError> {
    if hosts.count() > 1 {
        let connector = Connector::new(hosts.clone(), config.pool.session);
        let session = connector.open().await.map_err(CommandError::Connect)?;
        session.close().await;
        return Ok(connector.hosts().last().clone());
    }
    Ok(hosts.last().clone())
}

/// Refuses a data folder without a cluster.
pub(super) fn require_cluster(choice: &DatabaseChoice) -> Result<(), CommandError> {
    match choice {
        DatabaseChoice::Private(ClusterOptions { data_dir, .. })
            if !cluster::has_cluster(data_dir)? =>
        {
            Err(CommandError::NothingThere(data_dir.clone()))
        }
        _ => Ok(()),
    }
}

/// Starts the private server, or attaches to the server of another instance. That instance may be
/// starting or stopping, so both are attempted in turn until one succeeds.
async fn reach(
    options: &ClusterOptions,
    patience: Duration,
    signals: &mut Signals,
) -> Result<(PgConnectOptions, Option<PrivateCluster>), CommandError> {
    let give_up = Instant::now() + patience;
    while Instant::now() < give_up {
        let mut signal = "";
        let interrupted = async { signal = signals.next().await };
        match PrivateCluster::start_unless(options.clone(), interrupted).await {
            Ok(Some(cluster)) => {
                return Ok((cluster.connect_options(SERVICE_DATABASE), Some(cluster)));
            }
            Ok(None) => return Err(CommandError::Interrupted(signal)),
            Err(ClusterError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let running = cluster::attach_running(&options.data_dir, SERVICE_DATABASE, ATTACH_STEP);
        if let Some(options) = running.await? {
            return Ok((options, None));
        }
    }
    Err(CommandError::NotReady(options.data_dir.clone()))
}
