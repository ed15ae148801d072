//! Starts a service for each test, on its own database, over real sockets.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll::cluster::{ClusterOptions, PrivateCluster, SERVICE_DATABASE};
use plimsoll::config::{Config, DatabaseChoice};
use plimsoll::service::Service;
use plimsoll::store::hosts::Hosts;
use plimsoll::verify::verify;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::cluster;

/// A running service, and a direct connection to its database.
pub(crate) struct TestService {
    pub(crate) service: Service,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) database: PgConnectOptions,
    pub(crate) pool: PgPool,
}

/// Status and body of an answer.
pub(crate) type Answer = (u16, String);

impl TestService {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts it with these environment variables.
    pub(crate) async fn start_with(variables: &[(&str, &str)]) -> Self {
        let database = cluster::shared().await.fresh_database().await;
        Self::start_on(database, variables).await
    }

    /// Starts it on a database that another service may also use.
    pub(crate) async fn start_on(database: PgConnectOptions, variables: &[(&str, &str)]) -> Self {
        let choice = DatabaseChoice::Url(database.clone().into());
        Self::start_configured(choice, database, variables).await
    }

    /// Starts it with another route to the database than the test's.
    pub(crate) async fn start_through(
        way: PgConnectOptions,
        database: PgConnectOptions,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start_configured(DatabaseChoice::Url(way.into()), database, variables).await
    }

    /// Starts it on several hosts, of which the test uses one.
    pub(crate) async fn start_on_hosts(hosts: Hosts, database: PgConnectOptions) -> Self {
        Self::start_configured(DatabaseChoice::Url(hosts), database, &[]).await
    }

    /// Why it does not start on these hosts.
    pub(crate) async fn refused_on_hosts(hosts: Hosts, variables: &[(&str, &str)]) -> String {
        let config = configured(DatabaseChoice::Url(hosts), variables);
        match Service::start(&config).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error.to_string(),
        }
    }

    /// Starts it with its own private cluster.
    pub(crate) async fn start_private(options: ClusterOptions) -> Self {
        Self::start_private_with(options, &[]).await
    }

    /// As [`Self::start_private`], with these environment variables.
    pub(crate) async fn start_private_with(
        options: ClusterOptions,
        variables: &[(&str, &str)],
    ) -> Self {
        // The service itself starts the cluster. This start only determines its address.
        let cluster = PrivateCluster::start(options.clone()).await.expect("the cluster starts");
        let database = cluster.connect_options(SERVICE_DATABASE);
        cluster.stop().await.expect("the cluster stops");
        drop(cluster);
        Self::start_configured(DatabaseChoice::Private(options), database, variables).await
    }

    async fn start_configured(
        choice: DatabaseChoice,
        database: PgConnectOptions,
        variables: &[(&str, &str)],
    ) -> Self {
        let config = configured(choice, variables);
        let service = Service::start(&config).await.expect("the service starts");
        let url = format!("http://{}", service.address());
        let pool = PgPoolOptions::new()
            // Some tests keep a dozen rows locked. Connections are opened on demand.
            .max_connections(16)
            .connect_with(database.clone().application_name("test"))
            .await
            .expect("the database answers");
        Self { service, url, client: Client::new(), database, pool }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.expect("the service answers")
    }

    /// One change through one approach.
    pub(crate) async fn change(&self, approach: &str, user: i64, amount: i64) -> Answer {
        let body = json!({ "userId": user, "amount": amount });
        let path = format!("/approach/{approach}/balance");
        read(self.send(Method::PATCH, &path, Some(body)).await).await
    }

    /// One change through one approach, with a key. Returns also whether the answer is a replay.
    pub(crate) async fn keyed(
        &self,
        approach: &str,
        user: i64,
        amount: i64,
        key: &str,
    ) -> (Answer, bool) {
        let request = self
            .client
            .patch(format!("{}/approach/{approach}/balance", self.url))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(json!({ "userId": user, "amount": amount }).to_string());
        let response = request.send().await.expect("the service answers");
        let replayed = response.headers().get("idempotent-replayed").map(|value| value == "true");
        (read(response).await, replayed.unwrap_or(false))
    }

    /// The number of journal rows of a user.
    pub(crate) async fn journal_rows(&self, user: i64) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM balance_changes WHERE user_id = $1")
            .bind(user)
            .fetch_one(&self.pool)
            .await
            .expect("the journal can be read")
    }

    /// A new user with this balance.
    pub(crate) async fn user_with(&self, balance: i64) -> i64 {
        let body = json!({ "balance": balance });
        let (status, text) = read(self.send(Method::POST, "/users", Some(body)).await).await;
        assert_eq!(status, 201, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["id"].as_i64().unwrap()
    }

    /// The balance stored in the database.
    pub(crate) async fn balance_of(&self, user: i64) -> i64 {
        sqlx::query_scalar("SELECT balance FROM users WHERE id = $1")
            .bind(user)
            .fetch_one(&self.pool)
            .await
            .expect("the user exists")
    }

    /// Checks all invariants of the database, as `plimsoll verify` does.
    pub(crate) async fn assert_verified(&self) {
        let mut connection = self.pool.acquire().await.expect("the database answers");
        let report = verify(&mut connection).await.expect("the database can be verified");
        assert!(report.is_clean(), "{report:#?}");
    }

    /// Stops the service and verifies the database. Every test ends with this.
    pub(crate) async fn stop(self) {
        self.assert_verified().await;
        self.pool.close().await;
        self.service.stop().await;
    }
}

fn configured(choice: DatabaseChoice, variables: &[(&str, &str)]) -> Config {
    let mut values: HashMap<&str, &str> = [("PORT", "0"), ("STOP_DELAY_SECS", "0")].into();
    values.extend(variables.iter().copied());
    let mut config = Config::from_lookup(&|name| values.get(name).map(ToString::to_string))
        .expect("the test's configuration is valid");
    config.database = choice;
    config
}

/// Two instances of the service on one database, or on a fresh one.
pub(crate) async fn two_instances(database: Option<PgConnectOptions>) -> [Arc<TestService>; 2] {
    let one = match database {
        None => TestService::start().await,
        Some(database) => TestService::start_on(database, &[]).await,
    };
    let two = TestService::start_on(one.database.clone(), &[]).await;
    [Arc::new(one), Arc::new(two)]
}

/// Stops both instances at the end of a test.
pub(crate) async fn stop_both(instances: [Arc<TestService>; 2]) {
    for service in instances {
        Arc::into_inner(service).expect("all clients are done").stop().await;
    }
}

pub(crate) async fn read(response: Response) -> Answer {
    let status = response.status().as_u16();
    (status, response.text().await.expect("the body arrives"))
}

/// The body of an accepted change.
pub(crate) fn balance_body(balance: i64) -> String {
    format!("{{\"balance\":{balance}}}")
}

/// The body of an error.
pub(crate) fn error_body(sentence: &str) -> String {
    json!({ "error": sentence }).to_string()
}

/// The answer to a change that the balance cannot pay.
pub(crate) fn insufficient() -> Answer {
    (400, error_body("Insufficient funds"))
}
