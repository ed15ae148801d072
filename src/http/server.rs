//! The accept loop: how connections come, stay and go.
//!
//! hyper's own HTTP/1 connection is driven here instead of `axum::serve`, because that one has no
//! time-out for a silent or slow client, and no cap on connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::config::HttpLimits;

/// How many connections the kernel keeps ready before they are accepted. tokio's own 128 would let
/// 10,000 clients that connect at once wait for SYN retries of a second and more. The kernel caps
/// it at `somaxconn`.
const BACKLOG: i32 = 16_384;

/// A pause after an accept that failed for want of a resource, such as a file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Binds and listens. A port that is taken is an error, never shared.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restart bind while connections of the last run are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves until `stop` resolves, then lets the requests in flight finish for `limits.drain`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let open = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            // The semaphore is never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (accept(&listener).await, place)
        };
        tokio::select! {
            (stream, place) = next => carry(stream, place, &router, limits, &open),
            () = &mut stop => break,
        }
    }
    drop(listener);
    if timeout(limits.drain, open.shutdown()).await.is_err() {
        warn!("connections were still open at the end of the drain time");
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client went away between its handshake and our accept.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn carry(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    router: &Router,
    limits: HttpLimits,
    open: &GracefulShutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the connection was gone at once");
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.read)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
    let connection = open.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection ended early");
        }
        drop(place);
    });
}
