//! The requests outside of a burst, one after another over one connection: they prepare users and
//! holds, and read them afterwards.

use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::books::{Entry, HoldState, State};
use crate::client::{Client, Connection};
use crate::reply::Reply;
use crate::run_error::RunError;

/// The entries of one page: the most that the service gives.
const PAGE: i64 = 500;

/// The longest page: 500 entries, each of them with a key and a reference.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Talks to the service outside of a burst.
pub(crate) struct Api<'a> {
    client: &'a Client,
    /// The limit for each single request.
    timeout: Duration,
    connection: Option<Connection>,
}

/// The service did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    Unreachable(std::io::Error),
    #[error("{asked} got: {reply}")]
    Answer { asked: String, reply: Reply },
    #[error("balances still change after the last answer")]
    StillChanging,
}

impl ApiError {
    /// The reason why the run stops.
    pub(crate) fn stops(self, client: &Client) -> RunError {
        let url = client.target().to_string();
        match self {
            Self::Answer { reply: reply @ Reply::Answer { status: 401, .. }, .. } => {
                RunError::Unauthorized { sentence: reply.sentence() }
            }
            Self::Unreachable(error) => RunError::Unreachable { url, why: error.to_string() },
            why => RunError::Unprepared { url, why: why.to_string() },
        }
    }
}

impl<'a> Api<'a> {
    pub(crate) fn new(client: &'a Client, timeout: Duration) -> Self {
        Self { client, timeout, connection: None }
    }

    /// Creates a user with this balance, and returns its number.
    pub(crate) async fn create_user(&mut self, balance: i64) -> Result<i64, ApiError> {
        #[derive(Deserialize)]
        struct Created {
            id: i64,
        }
        let body = format!(r#"{{"balance":{balance}}}"#);
        let created: Created = self.post("/users", body).await?;
        Ok(created.id)
    }

    /// Makes a hold, and returns its number.
    pub(crate) async fn reserve(&mut self, user: i64, amount: i64) -> Result<i64, ApiError> {
        #[derive(Deserialize)]
        struct Reserved {
            hold: i64,
        }
        let body = format!(r#"{{"amount":{amount}}}"#);
        let reserved: Reserved = self.post(&format!("/users/{user}/holds"), body).await?;
        Ok(reserved.hold)
    }

    pub(crate) async fn state(&mut self, user: i64) -> Result<State, ApiError> {
        self.get(&format!("/users/{user}")).await
    }

    /// All holds of a user, newest first.
    pub(crate) async fn holds(&mut self, user: i64) -> Result<Vec<HoldState>, ApiError> {
        #[derive(Deserialize)]
        struct Page {
            holds: Vec<HoldState>,
            next: Option<i64>,
        }
        let mut holds = Vec::new();
        let mut before = i64::MAX;
        loop {
            let path = format!("/users/{user}/holds?limit={PAGE}&before={before}");
            let page: Page = self.get(&path).await?;
            holds.extend(page.holds);
            match page.next {
                // A cursor that does not go back would never end.
                Some(next) if next < before => before = next,
                _ => return Ok(holds),
            }
        }
    }

    /// The entries after version `after`, up to and including version `last`; oldest first.
    pub(crate) async fn entries(
        &mut self,
        user: i64,
        after: i64,
        last: i64,
    ) -> Result<Vec<Entry>, ApiError> {
        #[derive(Deserialize)]
        struct Page {
            changes: Vec<Entry>,
            next: Option<i64>,
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut before = last.saturating_add(1);
        while before > after + 1 {
            let path = format!("/users/{user}/changes?limit={PAGE}&before={before}");
            let page: Page = self.get(&path).await?;
            entries.extend(page.changes.into_iter().filter(|entry| entry.version > after));
            match page.next {
                // A cursor that does not go back would never end.
                Some(next) if next < before => before = next,
                _ => break,
            }
        }
        entries.reverse();
        Ok(entries)
    }

    /// Sends any request and returns its reply.
    pub(crate) async fn reply(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, ApiError> {
        let mut open = self.connection.take();
        if let Some(connection) = &mut open
            && !connection.ready().await
        {
            // The service has closed it, for example during a long burst.
            open = None;
        }
        let mut connection = match open {
            Some(connection) => connection,
            None => self.client.open().await.map_err(ApiError::Unreachable)?,
        };
        let exchange = connection.exchange_up_to(PAGE_BYTES_MAX, request);
        let reply = timeout(self.timeout, exchange).await.unwrap_or(Reply::TimedOut);
        if matches!(reply, Reply::Answer { .. }) {
            self.connection = Some(connection);
        }
        Ok(reply)
    }

    async fn post<T: DeserializeOwned>(&mut self, path: &str, body: String) -> Result<T, ApiError> {
        let asked = format!("POST {path} {body}");
        let reply = self.reply(self.client.post(path, body)).await?;
        parse(asked, 201, reply)
    }

    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ApiError> {
        let reply = self.reply(self.client.get(path)).await?;
        parse(format!("GET {path}"), 200, reply)
    }
}

fn parse<T: DeserializeOwned>(asked: String, due: u16, reply: Reply) -> Result<T, ApiError> {
    let parsed = match &reply {
        Reply::Answer { status, body } if *status == due => serde_json::from_slice(body).ok(),
        _ => None,
    };
    parsed.ok_or(ApiError::Answer { asked, reply })
}
