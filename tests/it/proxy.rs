//! A proxy between the service and its database that delays connections or loses answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::cluster;

/// Listens on a socket that the service uses as the database's.
pub(crate) struct Proxy {
    pub(crate) database: PgConnectOptions,
    behaviour: Arc<Behaviour>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Behaviour {
    connect_delay_ms: AtomicU64,
    loses_answers: AtomicBool,
    /// Round trips that the service has requested.
    round_trips: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn in_front_of(database: &PgConnectOptions) -> Self {
        let server = database.get_socket().expect("the test's database has one");
        let server = server.join(".s.PGSQL.5432");
        let folder = cluster::fresh_folder("p");
        let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
        let behaviour = Arc::new(Behaviour::default());
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&behaviour)));
        Self { database: database.clone().socket(&folder), behaviour, accepting }
    }

    /// Delays each new connection.
    pub(crate) fn delay_connections(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap();
        self.behaviour.connect_delay_ms.store(millis, Ordering::Relaxed);
    }

    /// If true, each answer of the server is dropped from now on, and its connection is closed.
    pub(crate) fn lose_answers(&self, loses: bool) {
        self.behaviour.loses_answers.store(loses, Ordering::Relaxed);
    }

    pub(crate) fn round_trips(&self) -> usize {
        self.behaviour.round_trips.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, server: PathBuf, behaviour: Arc<Behaviour>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(forward(client, server.clone(), Arc::clone(&behaviour)));
    }
}

async fn forward(client: UnixStream, server: PathBuf, behaviour: Arc<Behaviour>) {
    sleep(Duration::from_millis(behaviour.connect_delay_ms.load(Ordering::Relaxed))).await;
    let Ok(server) = UnixStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let counting = Arc::clone(&behaviour);
    let asking = tokio::spawn(async move {
        let (mut part, mut messages) = ([0; 16 * 1024], Messages::default());
        loop {
            let count = from_client.read(&mut part).await.unwrap_or(0);
            if count == 0 || to_server.write_all(&part[..count]).await.is_err() {
                return;
            }
            let round_trips = messages.round_trips(&part[..count]);
            counting.round_trips.fetch_add(round_trips, Ordering::Relaxed);
        }
    });
    let mut part = [0; 16 * 1024];
    loop {
        let count = from_server.read(&mut part).await.unwrap_or(0);
        if count == 0
            || behaviour.loses_answers.load(Ordering::Relaxed)
            || to_client.write_all(&part[..count]).await.is_err()
        {
            break;
        }
    }
    asking.abort();
}

/// Parses the frontend's messages. Each has a type and a length, except the first, which has no type.
#[derive(Default)]
struct Messages {
    left: Vec<u8>,
    started: bool,
}

impl Messages {
    /// The number of messages that request an answer: `Query` and `Sync`.
    fn round_trips(&mut self, part: &[u8]) -> usize {
        self.left.extend_from_slice(part);
        let mut count = 0;
        loop {
            let head = usize::from(self.started);
            let Some(length) = self.left.get(head..head + 4) else { return count };
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.left.len() < head + length {
                return count;
            }
            let asks = self.started && matches!(self.left[0], b'Q' | b'S');
            count += usize::from(asks);
            self.started = true;
            self.left.drain(..head + length);
        }
    }
}
