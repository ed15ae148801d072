//! A TCP proxy on the loopback interface that delays, holds and cuts connections when it is told to.
//!
//! It stands between the clients and an instance, and between the instances and a database. What it does to
//! a connection is decided in [`order`], packet by packet; here is only what moves the bytes.

mod order;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

pub(crate) use order::{Effect, Order, Scope, Way};

use order::{Link, Orders, Step};

/// A packet of either protocol mostly fits.
const BUFFER_BYTES: usize = 16 * 1024;

/// Where the connections lead to.
#[derive(Debug, Clone)]
pub(crate) enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A running proxy. Dropping it closes its port; open connections live on.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    upstream: Mutex<Option<Upstream>>,
    orders: Orders,
}

impl Proxy {
    /// Listens on a free port. Without an upstream, each connection is closed at once.
    ///
    /// # Errors
    /// The system's error from listening.
    pub(crate) async fn start(upstream: Option<Upstream>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { upstream: Mutex::new(upstream), orders: Orders::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, new connections lead there.
    pub(crate) fn lead_to(&self, upstream: Upstream) {
        let mut current = self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(upstream);
    }

    /// Replaces the order before it, unless connections have taken that one up.
    pub(crate) fn give(&self, order: Order) {
        self.shared.orders.give(order);
    }

    /// How many connections the latest order has struck.
    pub(crate) fn struck(&self) -> usize {
        self.shared.orders.struck()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(serve(client, Arc::clone(&shared)));
            }
            // Such as too many open files: connections that end make room.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

/// An error ends both connections, which is all that either side can learn of it.
async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let upstream = shared.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    match upstream {
        Some(Upstream::Tcp(address)) => {
            let Ok(server) = TcpStream::connect(address).await else { return };
            let _ = server.set_nodelay(true);
            let (from_server, to_server) = server.into_split();
            join(from_client, to_server, from_server, to_client, &shared.orders).await;
        }
        Some(Upstream::Unix(path)) => {
            let Ok(server) = UnixStream::connect(path).await else { return };
            let (from_server, to_server) = server.into_split();
            join(from_client, to_server, from_server, to_client, &shared.orders).await;
        }
        None => {}
    }
}

/// Returns when the connection is over. A client that has closed its side still gets what is under way.
async fn join(
    from_client: impl AsyncRead + Unpin,
    to_server: impl AsyncWrite + Unpin,
    from_server: impl AsyncRead + Unpin,
    to_client: impl AsyncWrite + Unpin,
    orders: &Orders,
) {
    let link = Link::default();
    let up = pump(from_client, to_server, Way::Up, &link, orders);
    let down = pump(from_server, to_client, Way::Down, &link, orders);
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut up => if ended == Ended::Closed { down.await; },
        _ = &mut down => {}
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    /// The sender has closed its side, and so has the receiver been told.
    Closed,
    Cut,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    link: &Link,
    orders: &Orders,
) -> Ended {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => {
                let closed = to.shutdown().await;
                return if closed.is_ok() { Ended::Closed } else { Ended::Cut };
            }
            Ok(count) => count,
            Err(_) => return Ended::Cut,
        };
        let (forwarded, cut) = match orders.step(link, way, Instant::now()) {
            Step::Forward => (count, false),
            Step::Cut => (0, true),
            Step::CutHalf => (count / 2, true),
            Step::Wait { until, then_cut } => {
                sleep_until(until.into()).await;
                (if then_cut { 0 } else { count }, then_cut)
            }
        };
        if to.write_all(&buffer[..forwarded]).await.is_err() || cut {
            return Ended::Cut;
        }
    }
}
