//! The database of a command that ends by itself.
//!
//! With `DATABASE_URL` that is all. Without it, it is the private cluster: where a service runs on
//! the data folder, its server is used beside it; where none does, the server is started and
//! stopped again. While such a command holds the data folder, a service that is started on it says
//! that the folder is in use.

use sqlx::postgres::PgConnectOptions;
use tokio::time::{Duration, Instant};

use super::error::CommandError;
use super::signals::Signals;
use crate::cluster::{self, ClusterError, ClusterOptions, PrivateCluster, SERVICE_DATABASE};
use crate::config::{Config, DatabaseChoice};

/// How long to wait for the server of another instance before looking whether that one still runs.
const ATTACH_STEP: Duration = Duration::from_millis(250);

/// Runs `work` on the configured database. SIGINT and SIGTERM break it off, and a server that was
/// started for it is stopped in either case.
pub(super) async fn on_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(PgConnectOptions) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let mut signals = Signals::listen()?;
    let (options, started) = match &config.database {
        DatabaseChoice::Url(options) => ((**options).clone(), None),
        DatabaseChoice::Private(cluster) => reach(cluster, config.pool.connect).await?,
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

/// Refuses a data folder in which no cluster was made yet.
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

/// Whoever holds the data folder may be starting, or stopping and let it go: both are looked at in
/// turn until one of them works.
async fn reach(
    options: &ClusterOptions,
    patience: Duration,
) -> Result<(PgConnectOptions, Option<PrivateCluster>), CommandError> {
    let give_up = Instant::now() + patience;
    while Instant::now() < give_up {
        match PrivateCluster::start(options.clone()).await {
            Ok(cluster) => {
                return Ok((cluster.connect_options(SERVICE_DATABASE), Some(cluster)));
            }
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
