//! Assembles the service from database, approaches and HTTP, for `main` and for the tests.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tracing::info;

use crate::approach::registry::{ApproachOptions, Approaches, Shared};
use crate::cluster::{ClusterError, PrivateCluster, SERVICE_DATABASE};
use crate::config::{Config, ConfigError, DatabaseChoice, HttpLimits};
use crate::http::credentials::Credentials;
use crate::http::leaving::Leaving;
use crate::http::observe::{ObserverParts, failure_log::FailureLog};
use crate::http::server::{Bound, Listener, Workers};
use crate::http::{self, App, Internal, MetricsText, Parts};
use crate::metrics::Snapshot;
use crate::metrics::sessions::PoolUse;
use crate::operations::{OperationLane, OperationOptions, Operations};
use crate::store::hosts::Hosts;
use crate::store::readiness::Readiness;
use crate::store::schema::{self, StoreError};
use crate::store::session::Connector;
use crate::store::{Store, hold_expiry, key_expiry, sizes};

/// The connections of the internal address: a few scrapers, health checks and browsers. They take no
/// place of the public address, so a flood there keeps none of them out.
const INTERNAL_CONNECTIONS: usize = 32;

/// How often the private PostgreSQL is checked.
const SUPERVISION_PERIOD: Duration = Duration::from_millis(200);

/// How long shutdown waits for database work that no client awaits any more.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Why the service did not start. One line each.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file with tokens or a certificate is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The private PostgreSQL did not start.
    #[error("DATABASE_URL is not set, and the private PostgreSQL cannot be used: {0}")]
    Cluster(#[from] ClusterError),
    /// The database is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread or its runtime could not be created.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
    /// It was told to stop before it was ready.
    #[error("stopped before the start was complete")]
    Stopped,
    /// The service cannot listen on its address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address from the configuration.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}

/// A running service.
pub struct Service {
    credentials: Credentials,
    public: Serving,
    internal: Option<Serving>,
    leaving: Leaving,
    background: [JoinHandle<()>; 4],
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
    /// runtime; requests are served on threads of their own.
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
            readiness: Readiness::new(connector.clone()),
            leaving: Leaving::default(),
        };
        let outside = Outside {
            observers: ObserverParts { metrics: Arc::clone(shared.metrics()), log: log.clone() },
            leaving: about.leaving.clone(),
            about,
            credentials,
        };
        let database = (&connector, &shared, &operations, &stores);
        let workers = start_workers(config, database, &outside).await?;
        let internal = match internal {
            Some(door) => Some(start_internal(door.open()?, config.http, &outside).await?),
            None => None,
        };
        let Outside { credentials, leaving, .. } = outside;
        let public = public.open()?;
        let supervisor = cluster.clone().map(|cluster| tokio::spawn(supervise(cluster)));
        let database = shared.metrics().database().clone();
        let background = [
            tokio::spawn(key_expiry::run(connector.clone(), config.key_expiry)),
            tokio::spawn(hold_expiry::run(connector.clone(), config.hold_sweep)),
            tokio::spawn(sizes::run(connector, database)),
            tokio::spawn(log.clone().run()),
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

/// Where callers come in, before anything is served.
struct Entrance {
    credentials: Credentials,
    public: Door,
    internal: Option<Door>,
}

/// An address that is taken and not yet listened on.
struct Door {
    address: SocketAddr,
    bound: Bound,
}

impl Door {
    fn bind(address: SocketAddr) -> Result<Self, StartError> {
        let bound = Bound::to(address).map_err(|source| StartError::Listen { address, source })?;
        Ok(Self { address, bound })
    }

    fn open(self) -> Result<TcpListener, StartError> {
        let Self { address, bound } = self;
        bound.listen().map_err(|source| StartError::Listen { address, source })
    }
}

/// An address that is served.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    fn start(workers: Workers, listener: Listener, limits: HttpLimits) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(workers.serve(listener, limits, async {
            // An error means that the service was dropped, which stops it as well.
            let _ = stopped.await;
        }));
        Ok(Self { address, stop, task })
    }

    /// Answers the requests in flight.
    async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the accept loop panicked");
        }
    }
}

/// What the threads that serve HTTP have in common, beside the database.
#[derive(Clone)]
struct Outside {
    credentials: Credentials,
    about: Internal,
    observers: ObserverParts,
    leaving: Leaving,
}

/// The sessions of all threads.
type Stores = Arc<Mutex<Vec<Store>>>;

/// Serves the internal address, on a thread of its own.
async fn start_internal(
    listener: TcpListener,
    limits: HttpLimits,
    outside: &Outside,
) -> Result<Serving, StartError> {
    let limits = HttpLimits { connections: INTERNAL_CONNECTIONS, ..limits };
    let Outside { credentials, about, observers, leaving } = outside.clone();
    let workers = Workers::start_named("internal", 1, limits, leaving, move |_| {
        let router = http::internal_router(about.clone(), credentials.tokens());
        let front = http::front(router, &observers);
        async { Ok::<_, StartError>((front, std::future::ready(()))) }
    });
    Ok(Serving::start(workers.await?, listener.into(), limits)?)
}

fn metrics_text(shared: &Shared, operations: &OperationLane, stores: &Stores) -> MetricsText {
    let (shared, operations) = (shared.clone(), operations.clone());
    let stores = Arc::clone(stores);
    Arc::new(move || {
        let (changes, operations) = (shared.queued(), operations.queued());
        shared.metrics().text(&Snapshot { changes, operations, pools: used(&stores) })
    })
}

fn start_operations(config: &Config, connector: &Connector, shared: &Shared) -> OperationLane {
    let ApproachOptions { lane_queue, key_wait, .. } = config.approaches;
    let options = OperationOptions { queue_max: lane_queue, key_wait };
    OperationLane::start(connector, &options, shared.keys(), shared.metrics())
}

/// Starts the threads that serve HTTP. The first threads are the homes of the database sessions
/// (see [`Store`]); any further threads share the sessions of these homes, round robin.
async fn start_workers(
    config: &Config,
    (connector, shared, operations, stores): (&Connector, &Shared, &OperationLane, &Stores),
    outside: &Outside,
) -> Result<Workers, StartError> {
    let (count, pool, http) = (config.workers, config.pool, config.http);
    let homes = pool.homes(count);
    let (connector, shared, stores) = (connector.clone(), shared.clone(), Arc::clone(stores));
    let (operations, outside) = (operations.clone(), outside.clone());
    let has_internal = config.internal.is_some();
    Workers::start(count, http, outside.leaving.clone(), move |number| {
        let (connector, stores) = (connector.clone(), Arc::clone(&stores));
        let (shared, operations) = (shared.clone(), operations.clone());
        let Outside { about, credentials, observers, .. } = outside.clone();
        let Internal { metrics, readiness, leaving } = about;
        let tokens = credentials.tokens().clone();
        async move {
            let known = {
                let stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
                stores.get(usize::try_from(number % homes).unwrap_or(0)).cloned()
            };
            let store = match known {
                Some(store) => store,
                None => {
                    let opening =
                        Store::open(&connector, pool.of_home(number, homes), shared.metrics());
                    let store = opening.await.map_err(StoreError::Connect)?;
                    stores.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
                    store
                }
            };
            let approaches = Approaches::new(&store, &shared);
            let parts = Parts {
                approaches,
                operations: Operations::new(&operations),
                metrics,
                store: store.clone(),
                readiness,
                leaving,
                tokens,
                room: http::room::Room::default(),
                body_limit: http.body,
                idle_limit: http.idle,
            };
            let app = App::new(parts);
            let router = if has_internal { http::public_router(app) } else { http::router(app) };
            Ok::<_, StartError>((http::front(router, &observers), async move {
                if number < homes {
                    store.close(CLOSE_MAX).await;
                }
            }))
        }
    })
    .await
}

/// How much of the sessions of all threads is used at the moment.
fn used(stores: &Mutex<Vec<Store>>) -> [PoolUse; 2] {
    let stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
    let none = [PoolUse::default(); 2];
    stores.iter().map(Store::used).fold(none, |[changes, reads], [more_changes, more_reads]| {
        [changes + more_changes, reads + more_reads]
    })
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
