//! Accepts connections, and dispatches them to the workers in turn.

use std::io;
use std::iter::Cycle;
use std::pin::pin;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_immediate;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{unconstrained, yield_now};
use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;
use tracing::warn;

use super::listener::Listener;
use super::places::{Place, Places};
use super::refuser::Refuser;
use super::tls::Tls;

/// The pause after a failed accept that closing other connections would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A connection that waits for its worker, with its place.
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) place: Place,
}

/// Sends each connection to the next worker in turn.
pub(super) struct Dispatch<'a> {
    listener: &'a Listener,
    places: Places,
    refuser: Refuser,
    inboxes: Cycle<slice::Iter<'a, mpsc::Sender<Accepted>>>,
}

impl<'a> Dispatch<'a> {
    /// Accepts nothing yet. At most `connections` may be open at once.
    pub(super) fn new(
        listener: &'a Listener,
        inboxes: &'a [mpsc::Sender<Accepted>],
        connections: usize,
    ) -> Self {
        Self {
            listener,
            places: Places::new(connections),
            refuser: Refuser::default(),
            inboxes: inboxes.iter().cycle(),
        }
    }

    /// Accepts connections until `stop` resolves, however many come. A connection that was accepted is
    /// never dropped.
    pub(super) async fn until(&mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            let stream = tokio::select! {
                biased;
                () = &mut stop => return,
                stream = accept(&self.listener.listener, &mut self.places) => stream,
            };
            self.dispatch(stream).await;
        }
    }

    /// Accepts the connections that wait, and no more.
    pub(super) async fn rest(&mut self) {
        // The runtime polls the kernel before it polls a task that has yielded.
        yield_now().await;
        loop {
            let accepting = unconstrained(accept(&self.listener.listener, &mut self.places));
            let Some(stream) = poll_immediate(pin!(accepting)).await else { return };
            self.dispatch(stream).await;
        }
    }

    async fn dispatch(&mut self, stream: TcpStream) {
        let tls = &self.listener.tls;
        // After the connection has come, so that no other one is closed too early.
        let Some(place) = self.places.take().await else {
            self.refuser.refuse(stream, tls.is_some());
            return;
        };
        let Some(inbox) = self.inboxes.next() else { return };
        match stream.into_std() {
            // A worker that panicked has lost its connections and gets no more.
            Ok(stream) => {
                let tls = tls.as_ref().map(Tls::current);
                drop(inbox.send(Accepted { stream, tls, place }).await);
            }
            Err(error) => warn!(%error, "cannot hand a connection over"),
        }
    }
}

async fn accept(listener: &TcpListener, places: &mut Places) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if places.may_warn() {
                    warn!(%error, "cannot accept connections");
                }
                if !lacks_what_connections_hold(&error) || !places.make_room().await {
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Above all, file descriptors.
fn lacks_what_connections_hold(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// The client went away between its handshake and our accept.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
