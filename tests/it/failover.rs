//! A primary with a synchronous standby: the primary dies under load, and the standby takes over.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll::cluster::{PrivateCluster, SERVICE_DATABASE};
use plimsoll::store::hosts::Hosts;
use reqwest::Method;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};

use crate::cluster::{fresh_folder, options_in};
use crate::faults::until;
use crate::service::{Answer, TestService, error_body, read};

/// A primary, and a standby that each commit waits for.
pub(crate) struct Pair {
    pub(crate) primary: PrivateCluster,
    pub(crate) standby: PrivateCluster,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        let folder = fresh_folder("primary");
        let primary = PrivateCluster::start(options_in(&folder)).await.unwrap();
        let standby_folder = fresh_folder("second");
        let flags = ["--write-recovery-conf"];
        primary.copy_to(&options_in(&standby_folder).data_dir, &flags).await.unwrap();
        let standby = PrivateCluster::start(options_in(&standby_folder)).await.unwrap();
        let pair = Self { primary, standby };
        pair.wait_for_standby().await;
        pair
    }

    /// From now on, each commit waits for the standby.
    async fn wait_for_standby(&self) {
        let mut admin = self.primary.superuser_options("postgres").connect().await.unwrap();
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
        admin.execute("SELECT pg_reload_conf()").await.unwrap();
        until("the standby is synchronous", async || {
            let states: Vec<String> =
                sqlx::query_scalar("SELECT sync_state FROM pg_stat_replication")
                    .fetch_all(&mut admin)
                    .await
                    .unwrap();
            states == ["sync"]
        })
        .await;
        admin.close().await.unwrap();
    }

    /// The standby is named first: the service has to find out which of them is the primary.
    pub(crate) fn hosts(&self) -> Hosts {
        let options = |cluster: &PrivateCluster| cluster.connect_options(SERVICE_DATABASE);
        vec![options(&self.standby), options(&self.primary)].into()
    }

    fn kill_primary(&self) {
        let pid = self.primary.postmaster_pid().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }

    pub(crate) async fn promote(&self) {
        let mut admin = self.standby.superuser_options("postgres").connect().await.unwrap();
        let promoted: bool =
            sqlx::query_scalar("SELECT pg_promote()").fetch_one(&mut admin).await.unwrap();
        assert!(promoted);
        admin.close().await.unwrap();
    }
}

/// Keyed withdrawals of 1 until `stop`, through one approach each. Returns the final answer of each key:
/// a request that was not answered with a decision is sent again.
async fn load(service: &TestService, user: i64, stop: &AtomicBool) -> HashMap<String, Answer> {
    let client = async |name: &'static str| {
        let mut answers = Vec::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("{name}-{number}");
            let mut last = (0, String::new());
            until("the change is decided", async || {
                let (answer, _) = service.keyed(name, user, -1, &key).await;
                assert!(matches!(answer.0, 200 | 503 | 504), "{name}: {answer:?}");
                last = answer;
                last.0 == 200
            })
            .await;
            answers.push((key, last));
        }
        answers
    };
    let names = plimsoll::approach::registry::names();
    futures_util::future::join_all(names.map(client)).await.into_iter().flatten().collect()
}

async fn balance_stored_on(options: PgConnectOptions, user: i64) -> i64 {
    let mut connection = options.connect().await.unwrap();
    let balance = sqlx::query_scalar("SELECT balance FROM users WHERE id = $1")
        .bind(user)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    balance
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_and_nothing_acknowledged_is_lost() {
    let pair = Pair::start().await;
    let survivor = pair.standby.connect_options(SERVICE_DATABASE);
    let service = TestService::start_on_hosts(pair.hosts(), survivor.clone()).await;
    let user = service.user_with(1_000_000).await;
    let stop = AtomicBool::new(false);
    let fail_over = async {
        until("there is load", async || {
            balance_stored_on(survivor.clone(), user).await <= 1_000_000 - 200
        })
        .await;
        pair.kill_primary();
        // The standby could answer a read, but may be behind.
        until("a read is refused", async || {
            read(service.send(Method::GET, &format!("/users/{user}"), None).await).await
                == (503, error_body("Not applied, try again"))
        })
        .await;
        assert_eq!(service.send(Method::GET, "/readyz", None).await.status(), 503);
        assert_eq!(service.send(Method::GET, "/healthz", None).await.status(), 200);
        pair.promote().await;
        let before = balance_stored_on(survivor.clone(), user).await;
        until("changes go on", async || {
            balance_stored_on(survivor.clone(), user).await < before - 50
        })
        .await;
        assert_eq!(service.send(Method::GET, "/readyz", None).await.status(), 200);
        stop.store(true, Ordering::Relaxed);
    };
    let (answers, ()) = tokio::join!(load(&service, user, &stop), fail_over);
    let withdrawn = 1_000_000 - service.balance_of(user).await;
    assert_eq!(usize::try_from(withdrawn).unwrap(), answers.len(), "each key, once");
    for (key, answer) in &answers {
        let (name, _) = key.rsplit_once('-').unwrap();
        assert_eq!(service.keyed(name, user, -1, key).await, (answer.clone(), true), "{key}");
    }
    service.stop().await;
    pair.standby.stop().await.unwrap();
}

#[tokio::test]
async fn a_single_host_that_is_a_standby_is_not_served_from() {
    let pair = Pair::start().await;
    let primary = pair.primary.connect_options(SERVICE_DATABASE);
    TestService::start_on(primary, &[]).await.stop().await;
    let standby = pair.standby.connect_options(SERVICE_DATABASE);
    let hosts = Hosts::from(standby);
    let refused = TestService::refused_on_hosts(hosts, &[("CONNECT_TIMEOUT_SECS", "1")]).await;
    assert!(refused.contains("standby"), "{refused}");
    pair.standby.stop().await.unwrap();
    pair.primary.stop().await.unwrap();
}
