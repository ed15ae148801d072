//! A database whose commits can be made to hang: they are stored locally, but wait for a standby that
//! does not exist.

use std::time::Duration;

use plimsoll::cluster::SUPERUSER_ROLE;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use tokio::time::timeout;

use crate::cluster;
use crate::faults::until;
use crate::service::TestService;

/// The superuser's connection to such a database.
pub(crate) struct Standby {
    admin: PgConnection,
}

impl Standby {
    /// Starts a service with a private cluster of its own.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> (TestService, Self) {
        let options = cluster::options_in(&cluster::fresh_folder("standby"));
        let service = TestService::start_private_with(options, variables).await;
        let superuser = service.database.clone().username(SUPERUSER_ROLE);
        let admin = superuser.database("postgres").connect().await.unwrap();
        (service, Self { admin })
    }

    /// From now on, commits hang.
    pub(crate) async fn hang(&mut self, service: &TestService) {
        self.set("ALTER SYSTEM SET synchronous_standby_names = 'missing'").await;
        until("commits hang", async || {
            // The checkpointer turns the wait on for everybody, whenever it reads the setting. This
            // writes to the log, so its commit waits as well.
            let write = "SELECT pg_logical_emit_message(true, 'test', 'does a commit hang?')";
            let commit = timeout(Duration::from_millis(100), service.pool.execute(write));
            commit.await.is_err()
        })
        .await;
    }

    /// Ends the wait of all commits.
    pub(crate) async fn go_on(&mut self, service: &TestService) {
        self.set("ALTER SYSTEM RESET synchronous_standby_names").await;
        until("commits go on", async || names(service).await.is_empty()).await;
    }

    pub(crate) async fn close(self) {
        self.admin.close().await.unwrap();
    }

    async fn set(&mut self, sql: &str) {
        self.admin.execute(sql).await.unwrap();
        self.admin.execute("SELECT pg_reload_conf()").await.unwrap();
    }
}

async fn names(service: &TestService) -> String {
    sqlx::query_scalar("SELECT current_setting('synchronous_standby_names')")
        .fetch_one(&service.pool)
        .await
        .unwrap()
}
