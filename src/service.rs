//! The whole service, put together: database, approaches, HTTP. Started by `main` and by the tests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tracing::info;

use crate::approach::Approaches;
use crate::config::{Config, DatabaseChoice};
use crate::http::{self, App, Parts, auth::Tokens, server};
use crate::store::private_cluster::{ClusterError, PrivateCluster, SERVICE_DATABASE};
use crate::store::{Store, StoreError, expiry};

/// How soon a private PostgreSQL that died is missed.
const SUPERVISION_PERIOD: Duration = Duration::from_millis(200);

/// Why the service did not start. One line each.
#[derive(Debug, Error)]
pub enum StartError {
    /// The private PostgreSQL did not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The database is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// What HOST and PORT say.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A service that answers requests.
pub struct Service {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    expiry: JoinHandle<()>,
    supervisor: Option<JoinHandle<()>>,
    approaches: Approaches,
    store: Store,
    cluster: Option<Arc<PrivateCluster>>,
}

impl Service {
    /// Starts everything in order; on an error, what was started is stopped again.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        // First, so that a port in use is found before a database is started.
        let refused = |source| StartError::Listen { address: config.listen, source };
        let listener = server::listen(config.listen).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;

        let (options, cluster) = match &config.database {
            DatabaseChoice::Url(options) => ((**options).clone(), None),
            DatabaseChoice::Private(options) => {
                let cluster = PrivateCluster::start(options.clone()).await?;
                (cluster.connect_options(SERVICE_DATABASE), Some(Arc::new(cluster)))
            }
        };
        let store = match open(options, config).await {
            Ok(store) => store,
            Err(error) => {
                stop_cluster(cluster.as_deref()).await;
                return Err(error.into());
            }
        };
        let approaches = Approaches::new(&store, config.approaches);
        let app = App::new(Parts {
            approaches: approaches.clone(),
            store: store.clone(),
            tokens: Tokens::new(config.auth_tokens.clone()),
            body_limit: config.http.read,
        });
        let supervisor = cluster.clone().map(|cluster| tokio::spawn(supervise(cluster)));
        let expiry = tokio::spawn(expiry::run(store.pool().clone(), config.key_expiry));
        let (stop, stopped) = oneshot::channel();
        let serving =
            tokio::spawn(server::serve(listener, http::router(app), config.http, async {
                // An error means that the service was dropped: that stops it as well.
                let _ = stopped.await;
            }));
        info!("listening on http://{address}");
        Ok(Self { address, stop, serving, expiry, supervisor, approaches, store, cluster })
    }

    /// Where it listens; the port is a real one even where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the requests in flight, then closes the database connections, then stops the private
    /// cluster.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the accept loop ended badly");
        }
        self.approaches.close().await;
        // Between two batches or in the middle of one: the database rolls that one back.
        self.expiry.abort();
        self.store.close().await;
        if let Some(supervisor) = &self.supervisor {
            supervisor.abort();
        }
        stop_cluster(self.cluster.as_deref()).await;
        info!("stopped");
    }
}

async fn open(
    options: sqlx::postgres::PgConnectOptions,
    config: &Config,
) -> Result<Store, StoreError> {
    let store = Store::open(options, config.pool).await?;
    store.prepare().await?;
    Ok(store)
}

/// Nobody else would start the private PostgreSQL again. Stopping it ends the loop's effect.
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
