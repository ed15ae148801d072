//! The threads that serve HTTP, with the database sessions that belong to them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;

use super::entrance::Serving;
use super::error::StartError;
use crate::approach::registry::{Approaches, Shared};
use crate::config::{Config, HttpLimits};
use crate::feed::Feed;
use crate::http::credentials::Credentials;
use crate::http::observe::ObserverParts;
use crate::http::server::Workers;
use crate::http::{self, App, Internal, MetricsText, Parts};
use crate::metrics::Snapshot;
use crate::metrics::sessions::PoolUse;
use crate::operations::{OperationLane, Operations};
use crate::store::Store;
use crate::store::schema::StoreError;
use crate::store::session::Connector;

/// How long shutdown waits for database work that no client awaits any more.
pub(super) const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The connections of the internal address: a few scrapers, health checks and browsers. They take no
/// place of the public address, so a flood there keeps none of them out.
const INTERNAL_CONNECTIONS: usize = 32;

/// What the threads that serve HTTP have in common, beside the database.
#[derive(Clone)]
pub(super) struct Outside {
    pub(super) credentials: Credentials,
    pub(super) about: Internal,
    pub(super) observers: ObserverParts,
    pub(super) feed: Feed,
}

/// The sessions of all threads.
pub(super) type Stores = Arc<Mutex<Vec<Store>>>;

/// Serves the internal address, on a thread of its own.
pub(super) async fn start_internal(
    listener: TcpListener,
    limits: HttpLimits,
    outside: &Outside,
) -> Result<Serving, StartError> {
    let limits = HttpLimits { connections: INTERNAL_CONNECTIONS, ..limits };
    let Outside { credentials, about, observers, .. } = outside.clone();
    let workers = Workers::start("internal", 1, limits, about.leaving.clone(), move |_| {
        let router = http::internal_router(about.clone(), credentials.tokens());
        let front = http::front(router, &observers);
        async { Ok::<_, StartError>((front, std::future::ready(()))) }
    });
    Ok(Serving::start(workers.await?, listener.into(), limits)?)
}

pub(super) fn metrics_text(
    shared: &Shared,
    operations: &OperationLane,
    stores: &Stores,
) -> MetricsText {
    let (shared, operations) = (shared.clone(), operations.clone());
    let stores = Arc::clone(stores);
    Arc::new(move || {
        let (changes, operations) = (shared.queued(), operations.queued());
        shared.metrics().text(&Snapshot { changes, operations, pools: used(&stores) })
    })
}

/// Starts the threads that serve HTTP. The first threads are the homes of the database sessions
/// (see [`Store`]); any further threads share the sessions of these homes, round robin.
pub(super) async fn start_workers(
    config: &Config,
    (connector, shared, operations, stores): (&Connector, &Shared, &OperationLane, &Stores),
    outside: &Outside,
) -> Result<Workers, StartError> {
    let (count, pool, http) = (config.workers, config.pool, config.http);
    let homes = pool.homes(count);
    let (connector, shared, stores) = (connector.clone(), shared.clone(), Arc::clone(stores));
    let (operations, outside) = (operations.clone(), outside.clone());
    let has_internal = config.internal.is_some();
    Workers::start("http", count, http, outside.about.leaving.clone(), move |number| {
        let (connector, stores) = (connector.clone(), Arc::clone(&stores));
        let (shared, operations) = (shared.clone(), operations.clone());
        let Outside { about, credentials, observers, feed } = outside.clone();
        let Internal { metrics, console, readiness, leaving } = about;
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
                console,
                store: store.clone(),
                feed,
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
