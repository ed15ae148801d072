//! The server: how connections come, on which thread they live, and how they go.
//!
//! One thread accepts, and deals the connections out in turn to as many threads as there are cores,
//! each with a runtime of its own: a request is read and answered by one thread, and all have the
//! same share. Compared with `SO_REUSEPORT` the deal is even, and a port that is taken is an error
//! instead of being shared with a stranger.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::connection::carry;
use super::places::{Place, Places};
use crate::config::HttpLimits;

/// How many connections the kernel keeps ready before they are accepted. tokio's own 128 would let
/// 10,000 clients that connect at once wait for SYN retries of a second and more. The kernel caps
/// it at `somaxconn`.
const BACKLOG: i32 = 16_384;

/// A pause after an accept that failed, where closing other connections would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What is granted at the end beyond the time in which connections are closed.
const END_SLACK: Duration = Duration::from_secs(1);

/// Connections on their way to one worker; then the accepting waits.
const INBOX: usize = 256;

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

/// A connection on its way to a worker, with its place among all that may be open.
struct Handed {
    stream: std::net::TcpStream,
    place: Place,
}

/// The threads that serve, one runtime each.
pub struct Workers {
    inboxes: Vec<mpsc::Sender<Handed>>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Closed when no thread has a connection any more.
    serving: watch::Sender<()>,
    /// Dropped to let them close what they have.
    closing: watch::Sender<()>,
}

impl Workers {
    /// Starts `count` threads. Each calls `make` with its number, on its own runtime, for the routes
    /// that it serves and for what it has to close at the end.
    ///
    /// # Errors
    /// The first error of any `make`; the other threads end.
    pub async fn start<M, F, C, E>(count: u32, limits: HttpLimits, make: M) -> Result<Self, E>
    where
        M: Fn(u32) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(Router, C), E>>,
        C: Future<Output = ()>,
        E: From<io::Error> + Send + 'static,
    {
        let (serving, closing) = (watch::Sender::new(()), watch::Sender::new(()));
        let mut workers = Self { inboxes: Vec::new(), threads: Vec::new(), serving, closing };
        for number in 0..count {
            let (inbox, handed) = mpsc::channel(INBOX);
            let (ready, started) = oneshot::channel();
            let make = make.clone();
            let phases = Phases {
                serving: workers.serving.subscribe(),
                closing: workers.closing.subscribe(),
            };
            let work = move || worker(make(number), handed, limits, ready, phases);
            let name = format!("http-{number}");
            workers.threads.push(thread::Builder::new().name(name).spawn(work)?);
            workers.inboxes.push(inbox);
            started.await.unwrap_or_else(|_| Err(io::Error::other("a worker died").into()))?;
        }
        Ok(workers)
    }

    /// Accepts until `stop` resolves. Then the requests in flight finish, for `limits.drain` at most,
    /// and everything is closed.
    pub async fn serve(
        self,
        listener: TcpListener,
        limits: HttpLimits,
        stop: impl Future<Output = ()>,
    ) {
        let places = Places::new(limits.connections);
        tokio::select! {
            () = deal(&listener, places, &self.inboxes) => {}
            () = stop => {}
        }
        drop(listener);
        // This is how the workers learn of the end.
        drop(self.inboxes);
        // A thread may use what belongs to another one until its own last connection is closed. Each
        // ends that by itself, in the same time.
        if timeout(limits.drain + END_SLACK, self.serving.closed()).await.is_err() {
            warn!("a thread did not end its connections in time");
        }
        drop(self.closing);
        let joining =
            self.threads.into_iter().map(|thread| tokio::task::spawn_blocking(|| thread.join()));
        match timeout(3 * END_SLACK, join_all(joining)).await {
            Ok(joined) if joined.iter().all(|joined| matches!(joined, Ok(Ok(())))) => {}
            Ok(_) => error!("a worker panicked"),
            Err(_) => error!("a worker did not end in time"),
        }
    }
}

/// One connection after the other to one worker after the other. Never ends.
async fn deal(listener: &TcpListener, mut places: Places, inboxes: &[mpsc::Sender<Handed>]) {
    for inbox in inboxes.iter().cycle() {
        // In this order, so that nobody leaves before somebody else has come.
        let stream = accept(listener, &mut places).await;
        let place = places.take().await;
        match stream.into_std() {
            // A worker that panicked has lost its connections; it gets no more.
            Ok(stream) => drop(inbox.send(Handed { stream, place }).await),
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
                if lacks_what_connections_hold(&error) {
                    places.make_room().await;
                } else {
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// File descriptors above all.
fn lacks_what_connections_hold(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// The client went away between its handshake and our accept.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// How a thread and the others tell each other how far they are.
struct Phases {
    /// Dropped with its last connection.
    serving: watch::Receiver<()>,
    /// Closed when nobody has a connection any more.
    closing: watch::Receiver<()>,
}

/// A worker's thread, from its runtime to the end of its last connection.
fn worker<C: Future<Output = ()>, E: From<io::Error>>(
    making: impl Future<Output = Result<(Router, C), E>>,
    handed: mpsc::Receiver<Handed>,
    limits: HttpLimits,
    ready: oneshot::Sender<Result<(), E>>,
    mut phases: Phases,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error.into()))),
    };
    runtime.block_on(async {
        match making.await {
            Ok((router, close)) => {
                drop(ready.send(Ok(())));
                carry_all(handed, &router, limits).await;
                drop(router);
                drop(phases.serving);
                // An error is what is waited for: the other side is gone.
                let _ = phases.closing.changed().await;
                close.await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // A look-up of a host's name runs on a thread that nothing can stop; it is not waited for.
    runtime.shutdown_background();
}

async fn carry_all(mut handed: mpsc::Receiver<Handed>, router: &Router, limits: HttpLimits) {
    // Every connection holds a receiver: that is how it learns of the end, and how its own end
    // is learned of.
    let (open, end) = watch::channel(());
    while let Some(Handed { stream, place }) = handed.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                tokio::spawn(carry(place, stream, router.clone(), limits.read, end.clone()));
            }
            Err(error) => warn!(%error, "cannot take a connection over"),
        }
    }
    drop(end);
    open.send_replace(());
    if timeout(limits.drain, open.closed()).await.is_err() {
        warn!("connections were still open at the end of the drain time");
    }
}
