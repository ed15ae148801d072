//! Asks each instance for a change until it is accepted: whether the service has recovered.
//!
//! Changes users of its own, which the witness does not know; `verify` sees them. Several: the row of one may
//! be held by a session that was stopped, which delays nobody else.

use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::error::FaultError;
use crate::client::Client;
use crate::contract::api::Api;
use crate::reply::Reply;
use crate::target::Target;

/// A change that takes longer is asked for once more.
const ANSWER_MAX: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(5);

const USERS: usize = 8;

/// Users of its own, and the instances.
pub(crate) struct Probe {
    clients: Vec<Client>,
    users: Vec<i64>,
}

impl Probe {
    /// Creates the users.
    pub(crate) async fn start(targets: &[Target]) -> Result<Self, FaultError> {
        let mut clients = Vec::new();
        for target in targets {
            let client = Client::resolve(target, None).await;
            clients.push(client.map_err(|error| FaultError::new("reach an instance", error))?);
        }
        let mut users = Vec::new();
        let mut api = Api::new(&clients[0], Duration::from_secs(30));
        for _ in 0..USERS {
            let user = api.create_user(0).await;
            users.push(user.map_err(|error| FaultError::new("create a user", error))?);
        }
        drop(api);
        Ok(Self { clients, users })
    }

    /// Waits until each instance has accepted a change that was asked for after this call. Otherwise says
    /// which has not.
    pub(crate) async fn recovered(&self, within: Duration) -> Result<(), String> {
        let give_up = Instant::now() + within;
        let clients = self.clients.iter().enumerate();
        let ended = join_all(clients.map(|(number, client)| async move {
            let change = |n| client.change("batched", self.user(n), 1);
            let last = until_200(client, change, give_up).await;
            last.map_err(|reply| format!("instance {number}: {reply}"))
        }));
        ended.await.into_iter().collect()
    }

    /// A change through every approach, on each instance, is answered with 200; and so is `GET /readyz`.
    /// The rest is said in words.
    pub(crate) async fn all_work(&self, within: Duration) -> Vec<String> {
        let give_up = Instant::now() + within;
        let mut wrong = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            for approach in plimsoll::approach::registry::names() {
                let change = |n| client.change(approach, self.user(n), 1);
                if let Err(reply) = until_200(client, change, give_up).await {
                    wrong.push(format!("instance {number}: a change through {approach}: {reply}"));
                }
            }
            if let Err(reply) = until_200(client, |_| client.get("/readyz"), give_up).await {
                wrong.push(format!("instance {number}: GET /readyz: {reply}"));
            }
        }
        wrong
    }

    fn user(&self, attempt: usize) -> i64 {
        self.users[attempt % self.users.len()]
    }
}

/// `request` makes one for each attempt. Without a success in time, returns the last reply.
async fn until_200(
    client: &Client,
    request: impl Fn(usize) -> Request<Full<Bytes>>,
    give_up: Instant,
) -> Result<(), Reply> {
    let mut attempts = 0..;
    loop {
        let attempt = attempts.next().unwrap_or_default();
        let asking = async {
            match client.open().await {
                Ok(mut connection) => connection.exchange(request(attempt)).await,
                Err(error) => Reply::ConnectionLost(error.to_string().into()),
            }
        };
        match timeout(ANSWER_MAX, asking).await.unwrap_or(Reply::TimedOut) {
            Reply::Answer { status: 200, .. } => return Ok(()),
            reply if Instant::now() >= give_up => return Err(reply),
            _ => sleep(PAUSE).await,
        }
    }
}
