//! The database server of a round, or a primary and its standby, each behind a proxy of its own.

mod standby;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll::cluster::{ClusterOptions, PrivateCluster, SERVICE_DATABASE, SERVICE_ROLE};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::clock::Clocks;
use crate::faults::error::FaultError;
use crate::faults::kind::Sort;
use crate::faults::proxy::{Proxy, Upstream};

/// The recovery of a busy server on a slow disk.
const READY_WITHIN: Duration = Duration::from_secs(120);

const POLL_EVERY: Duration = Duration::from_millis(5);

/// An attempt to connect as the administrator.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// More than two instances need, and few enough to be taken away within a moment.
const CONNECTIONS_MAX: &str = "60";

/// All servers of a round.
pub(crate) struct Databases {
    folder: PathBuf,
    sort: Sort,
    pg_bin: Option<PathBuf>,
    hosts: Vec<Host>,
    primary: AtomicUsize,
    /// How many clusters were made.
    made: AtomicUsize,
    /// Held by whoever ends or starts a server.
    pub(crate) server: tokio::sync::Mutex<()>,
}

/// An address in `DATABASE_URL`, and the server that is there now.
struct Host {
    cluster: Mutex<Arc<PrivateCluster>>,
    proxy: Proxy,
}

impl Databases {
    /// Creates the clusters and starts their servers.
    pub(super) async fn start(
        sort: Sort,
        folder: &Path,
        clocks: Option<&Clocks>,
    ) -> Result<Self, FaultError> {
        let options = options(sort, folder.join("a"), None);
        let mut cluster = PrivateCluster::start(options.clone()).await?;
        let mut pg_bin = None;
        if let Some(clocks) = clocks {
            let programs = clocks.programs(cluster.bin_dir())?;
            cluster.stop().await?;
            // It has the data folder until then.
            drop(cluster);
            pg_bin = Some(programs);
            cluster =
                PrivateCluster::start(ClusterOptions { pg_bin: pg_bin.clone(), ..options }).await?;
        }
        let mut databases = Self {
            folder: folder.to_owned(),
            sort,
            pg_bin,
            hosts: vec![Host::of(cluster).await?],
            primary: AtomicUsize::new(0),
            made: AtomicUsize::new(1),
            server: tokio::sync::Mutex::new(()),
        };
        if sort == Sort::Standby {
            let standby = databases.make_standby().await?;
            databases.hosts.push(Host::of(standby).await?);
            databases.wait_for_standby().await?;
        }
        Ok(databases)
    }

    /// `DATABASE_URL` of the instances.
    pub(super) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.hosts.iter().map(|host| host.proxy.address().to_string()).collect();
        let hosts = hosts.join(",");
        format!("postgres://{SERVICE_ROLE}@{hosts}/{SERVICE_DATABASE}?sslmode=disable")
    }

    /// The server that accepts changes.
    pub(crate) fn primary(&self) -> Arc<PrivateCluster> {
        self.host().cluster()
    }

    /// The proxy in front of it.
    pub(crate) fn proxy(&self) -> &Proxy {
        &self.host().proxy
    }

    /// A connection of the administrator, past the proxy.
    pub(crate) async fn admin(&self) -> Result<PgConnection, FaultError> {
        let options = self.primary().superuser_options(SERVICE_DATABASE);
        let options = options.application_name("faults").disable_statement_logging();
        let connecting = timeout(CONNECT_MAX, options.connect()).await;
        let connected = connecting.map_err(|_| FaultError::new("connect", "no answer in 5 s"))?;
        let mut connection = connected?;
        // Those of the cluster are meant for the service.
        sqlx::query("SELECT set_config('idle_in_transaction_session_timeout', '0', false)")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    /// Signals the postmaster of the primary, if there is one.
    pub(crate) fn signal_server(&self, signal: Signal) {
        let pid = self.primary().postmaster_pid();
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            // An error means that it has just ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// False if it still runs when the time is up.
    pub(crate) async fn server_ends_within(&self, limit: Duration) -> bool {
        let primary = self.primary();
        let ended = async {
            while primary.is_running() {
                sleep(POLL_EVERY).await;
            }
        };
        timeout(limit, ended).await.is_ok()
    }

    /// Starts the primary's server if it has ended, and waits until it accepts connections.
    pub(crate) async fn until_ready(&self) -> Result<(), FaultError> {
        let give_up = Instant::now() + READY_WITHIN;
        loop {
            // A server that finds no room on its disk ends again.
            let started = self.primary().restart_if_dead().await;
            let ready = match started {
                Ok(_) => self.is_ready().await,
                Err(error) => Err(error.into()),
            };
            match ready {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= give_up => {
                    return Err(FaultError::new("start the server again", error));
                }
                Err(_) => sleep(POLL_EVERY).await,
            }
        }
    }

    async fn is_ready(&self) -> Result<(), FaultError> {
        let mut admin = self.admin().await?;
        sqlx::query("SELECT 1").execute(&mut admin).await?;
        Ok(admin.close().await?)
    }

    pub(super) async fn stop(&self) -> Result<(), FaultError> {
        for host in self.hosts.iter().rev() {
            host.cluster().stop().await?;
        }
        Ok(())
    }

    fn host(&self) -> &Host {
        &self.hosts[self.primary.load(Ordering::Relaxed)]
    }
}

impl Host {
    async fn of(cluster: PrivateCluster) -> Result<Self, FaultError> {
        let proxy = Proxy::start(Some(upstream(&cluster))).await?;
        Ok(Self { cluster: Mutex::new(Arc::new(cluster)), proxy })
    }

    fn cluster(&self) -> Arc<PrivateCluster> {
        Arc::clone(&self.cluster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, cluster: PrivateCluster) {
        self.proxy.lead_to(upstream(&cluster));
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(cluster);
    }
}

fn upstream(cluster: &PrivateCluster) -> Upstream {
    Upstream::Unix(cluster.socket_dir().join(".s.PGSQL.5432"))
}

/// The settings of production, except for sizes.
fn options(sort: Sort, data_dir: PathBuf, pg_bin: Option<PathBuf>) -> ClusterOptions {
    let mut settings = vec![("max_connections", CONNECTIONS_MAX), ("shared_buffers", "64MB")];
    if sort == Sort::SmallDisk {
        settings.extend([("max_wal_size", "64MB"), ("min_wal_size", "32MB")]);
    }
    if sort == Sort::Standby {
        // After a restart of the primary the standby connects again at once, not after 5 s.
        settings.push(("wal_retrieve_retry_interval", "100ms"));
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    ClusterOptions { data_dir, pg_bin, settings: settings.into_iter().map(owned).collect() }
}
