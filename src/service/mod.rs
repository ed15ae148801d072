//! Assembles the service from database, approaches and HTTP, for `main` and for the tests.

mod entrance;
mod error;
mod threads;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tracing::info;

use crate::approach::registry::{ApproachOptions, Shared};
use crate::cluster::{PrivateCluster, SERVICE_DATABASE};
use crate::config::{Config, DatabaseChoice};
use crate::console::Console;
use crate::feed::{self, Feed};
use crate::http::Internal;
use crate::http::credentials::Credentials;
use crate::http::events;
use crate::http::leaving::Leaving;
use crate::http::listener::Listener;
use crate::http::observe::{ObserverParts, failure_log::FailureLog};
use crate::operations::{OperationLane, OperationOptions};
use crate::store::hosts::Hosts;
use crate::store::readiness::Readiness;
use crate::store::schema;
use crate::store::session::Connector;
use crate::store::{hold_expiry, key_expiry, sizes};
use entrance::{Door, Entrance, Serving};
use threads::{CLOSE_MAX, Outside, Stores, metrics_text, start_internal, start_workers};

pub use error::StartError;

/// How often the private PostgreSQL is checked.
const SUPERVISION_PERIOD: Duration = Duration::from_millis(200);

/// A running service.
pub struct Service {
    credentials: Credentials,
    public: Serving,
    internal: Option<Serving>,
    leaving: Leaving,
    background: [JoinHandle<()>; 5],
    feed: feed::Running,
    log: FailureLog,
    supervisor: Option<JoinHandle<()>>,
    shared: Shared,
    operations: OperationLane,
    cluster: Option<Arc<PrivateCluster>>,
}

impl Service {
    /// Starts all parts in order. On an error, it stops the parts that have started.
    ///
    /// The lanes, the expiry of keys and holds, and the supervision of the private cluster run on the current
    /// runtime; requests and the feed of events are served on threads of their own.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_unless(config, std::future::pending()).await
    }

    /// As [`start`](Self::start), unless `stop` resolves first. Then the start ends at once, whatever it
    /// waits for: the database closes its sessions, and rolls back a migration that it has not committed.
    ///
    /// # Errors
    /// [`StartError::Stopped`], or as [`start`](Self::start).
    pub async fn start_unless(
        config: &Config,
        stop: impl Future<Output = ()>,
    ) -> Result<Self, StartError> {
        let mut stop = pin!(stop);
        // First, so that a file that is not usable and a port in use are found before a database is
        // started.
        let entrance = Entrance {
            credentials: Credentials::open(config)?,
            public: Door::bind(config.listen)?,
            internal: config.internal.map(Door::bind).transpose()?,
        };
        let (hosts, cluster) = match &config.database {
            DatabaseChoice::Url(hosts) => (hosts.clone(), None),
            DatabaseChoice::Private(options) => {
                let starting = PrivateCluster::start_unless(options.clone(), stop.as_mut());
                let cluster = starting.await?.ok_or(StartError::Stopped)?;
                (cluster.connect_options(SERVICE_DATABASE).into(), Some(Arc::new(cluster)))
            }
        };
        let started = tokio::select! {
            started = Self::start_on(config, hosts, cluster.clone(), entrance) => started,
            () = stop => Err(StartError::Stopped),
        };
        if started.is_err() {
            stop_cluster(cluster.as_deref()).await;
        }
        started
    }

    async fn start_on(
        config: &Config,
        hosts: Hosts,
        cluster: Option<Arc<PrivateCluster>>,
        entrance: Entrance,
    ) -> Result<Self, StartError> {
        let Entrance { credentials, public, internal } = entrance;
        let connector = Connector::new(hosts, config.pool.session);
        if config.migrate_on_start {
            schema::prepare(&connector, config.pool.connect).await?;
        } else {
            schema::require(&connector, config.pool.connect).await?;
        }
        let shared = Shared::start(&connector, config.approaches);
        let operations = start_operations(config, &connector, &shared);
        let log = FailureLog::default();
        let stores = Stores::default();
        let about = Internal {
            metrics: metrics_text(&shared, &operations, &stores),
            console: Console::default(),
            readiness: Readiness::new(connector.clone()),
            leaving: Leaving::default(),
        };
        let streams_max = config.http.event_streams();
        let counters = shared.metrics().of_feed();
        let (feed, reading) =
            Feed::start(connector.clone(), events::append, streams_max, counters)?;
        let outside = Outside {
            observers: ObserverParts { metrics: Arc::clone(shared.metrics()), log: log.clone() },
            about,
            credentials,
            feed,
        };
        let database = (&connector, &shared, &operations, &stores);
        let workers = start_workers(config, database, &outside).await?;
        let internal = match internal {
            Some(door) => Some(start_internal(door.open()?, config.http, &outside).await?),
            None => None,
        };
        let Outside { credentials, about, .. } = outside;
        let Internal { metrics, console, leaving, .. } = about;
        let public = public.open()?;
        let supervisor = cluster.clone().map(|cluster| tokio::spawn(supervise(cluster)));
        let database = shared.metrics().database().clone();
        let background = [
            tokio::spawn(key_expiry::run(connector.clone(), config.key_expiry)),
            tokio::spawn(hold_expiry::run(connector.clone(), config.hold_sweep)),
            tokio::spawn(sizes::run(connector, database)),
            tokio::spawn(log.clone().run()),
            tokio::spawn(console.run(metrics)),
        ];
        let scheme = if credentials.tls().is_some() { "https" } else { "http" };
        let listener = Listener::new(public, credentials.tls());
        let public = Serving::start(workers, listener, config.http)?;
        info!("listening on {scheme}://{}", public.address);
        if let Some(internal) = &internal {
            info!("metrics and docs are on http://{}", internal.address);
        }
        Ok(Self {
            credentials,
            public,
            internal,
            leaving,
            background,
            feed: reading,
            log,
            supervisor,
            shared,
            operations,
            cluster,
        })
    }

    /// The address it listens on. Where port 0 was configured, this is the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.public.address
    }

    /// The address of metrics and docs, if they have one of their own.
    pub fn internal_address(&self) -> Option<SocketAddr> {
        self.internal.as_ref().map(|serving| serving.address)
    }

    /// Reads tokens and certificate again; see [`Credentials::reload`].
    pub async fn reload(&self) {
        self.credentials.reload().await;
    }

    /// Announces the stop: `GET /readyz` fails from now on, and each response is the last one of its
    /// connection. All requests are still served.
    pub fn leave(&self) {
        self.leaving.announce();
    }

    /// Answers the requests in flight, then closes the database sessions, then stops the private
    /// cluster. Waits at most a few seconds for a database that does not respond.
    pub async fn stop(self) {
        self.leave();
        self.public.stop().await;
        // Until here, so that the end can be watched.
        if let Some(internal) = self.internal {
            internal.stop().await;
        }
        tokio::join!(self.shared.close(CLOSE_MAX), self.operations.close(CLOSE_MAX));
        drop(self.feed);
        // This may hit the middle of a transaction: the database rolls it back.
        self.background.iter().for_each(JoinHandle::abort);
        self.log.summarize();
        if let Some(supervisor) = &self.supervisor {
            supervisor.abort();
        }
        stop_cluster(self.cluster.as_deref()).await;
        info!("stopped");
    }
}

fn start_operations(config: &Config, connector: &Connector, shared: &Shared) -> OperationLane {
    let ApproachOptions { lane_queue, key_wait, .. } = config.approaches;
    let options = OperationOptions { queue_max: lane_queue, key_wait };
    OperationLane::start(connector, &options, shared.keys(), shared.metrics())
}

/// Restarts the private PostgreSQL when it dies: nothing else would. No effect once it is stopped.
async fn supervise(cluster: Arc<PrivateCluster>) {
    let mut ticks = interval(SUPERVISION_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = cluster.restart_if_dead().await {
            tracing::error!(%error, "the private PostgreSQL cannot be started again");
        }
    }
}

async fn stop_cluster(cluster: Option<&PrivateCluster>) {
    let Some(cluster) = cluster else { return };
    if let Err(error) = cluster.stop().await {
        tracing::error!(%error, "the private PostgreSQL did not stop");
    }
}
