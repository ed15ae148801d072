//! The server: accepts connections, dispatches them to threads, and closes them at shutdown.
//!
//! One thread accepts, and dispatches the connections in turn to the workers: as many threads as
//! there are cores, each with its own runtime. So one thread serves a request from start to end,
//! and all workers have equal shares. `SO_REUSEPORT` would share unevenly, and would share a taken
//! port with another process, where this server reports an error.

use std::io;
use std::iter::Cycle;
use std::net::SocketAddr;
use std::pin::pin;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ServerConfig;
use tracing::{error, warn};

use super::connection::{Serving, serve, serve_tls};
use super::leaving::Leaving;
use super::observe::Front;
use super::places::{Place, Places};
use super::refuser::Refuser;
use super::tls::Tls;
use crate::config::HttpLimits;

/// The connections that the kernel queues until they are accepted. With tokio's default of 128,
/// 10,000 clients that connect at once would wait a second or more for SYN retries. The kernel caps
/// it at `somaxconn`.
const BACKLOG: i32 = 16_384;

/// What the kernel stores for a client that does not take it, in bytes. Otherwise the buffers of a
/// stream grow to megabytes, and the service sees such a client go on only when it has taken a third of
/// them.
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 128 * 1024;

/// The pause after a failed accept that closing other connections would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a client may take to complete its connection, whose first packet came before the listener
/// was about to close. One round trip.
const HANDSHAKE_MAX: Duration = Duration::from_millis(200);

/// The extra time at shutdown, beyond the time in which connections are closed.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(1);

/// The connections that are queued for one worker. Accepting waits while its queue is full.
const INBOX: usize = 256;

/// An address that is taken, but refuses connections until [`listen`](Self::listen).
///
/// A start may wait for the database for long. A client that is refused meanwhile knows that nothing was
/// applied, and a load balancer sends its request to another instance by itself. It would do neither if
/// the kernel queued the connection, nor, by default, if the service answered 503. A probe of whether
/// the process is alive fails until the start is complete; `startupProbe` is what Kubernetes has for that.
pub struct Bound(Socket);

impl Bound {
    /// Binds. An address that another process listens on is an error, never shared.
    ///
    /// # Errors
    /// As the system says.
    pub fn to(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart can bind while connections of the last run are still in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Connections inherit it.
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
        socket.bind(&address.into())?;
        Ok(Self(socket))
    }

    /// Accepts connections from now on.
    ///
    /// # Errors
    /// As the system says. Another process may have bound the same address, and listened first.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        TcpListener::from_std(self.0.into())
    }
}

/// Where connections come from.
pub struct Listener {
    listener: TcpListener,
    /// Without it, connections speak plain HTTP.
    tls: Option<Tls>,
}

impl Listener {
    /// With the certificate of TLS connections, if there is one.
    pub fn new(listener: TcpListener, tls: Option<Tls>) -> Self {
        Self { listener, tls }
    }

    /// The address. Where port 0 was asked for, this is the port that was chosen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

/// A connection that waits for its worker, with its place.
struct Accepted {
    stream: std::net::TcpStream,
    tls: Option<Arc<ServerConfig>>,
    place: Place,
}

/// The threads that serve connections, each with its own runtime.
pub struct Workers {
    inboxes: Vec<mpsc::Sender<Accepted>>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Reports when no worker has a connection left: every worker has then dropped its receiver.
    serving: watch::Sender<()>,
    /// Dropped to let the workers close their resources.
    closing: watch::Sender<()>,
}

impl Workers {
    /// Starts `count` threads. Each calls `make` with its number, on its own runtime, and gets the
    /// routes and a future that closes their resources at shutdown.
    ///
    /// # Errors
    /// The first error of any `make`. The other threads then end.
    pub async fn start<M, F, R, C, E>(
        count: u32,
        limits: HttpLimits,
        leaving: Leaving,
        make: M,
    ) -> Result<Self, E>
    where
        M: Fn(u32) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(R, C), E>>,
        R: Into<Front>,
        C: Future<Output = ()>,
        E: From<io::Error> + Send + 'static,
    {
        Self::start_named("http", count, limits, leaving, make).await
    }

    /// As [`Self::start`], with another name for the threads.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_named<M, F, R, C, E>(
        name: &str,
        count: u32,
        limits: HttpLimits,
        leaving: Leaving,
        make: M,
    ) -> Result<Self, E>
    where
        M: Fn(u32) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(R, C), E>>,
        R: Into<Front>,
        C: Future<Output = ()>,
        E: From<io::Error> + Send + 'static,
    {
        let (serving, closing) = (watch::Sender::new(()), watch::Sender::new(()));
        let mut workers = Self { inboxes: Vec::new(), threads: Vec::new(), serving, closing };
        for number in 0..count {
            let (inbox, accepted) = mpsc::channel(INBOX);
            let (ready, started) = oneshot::channel();
            let make = make.clone();
            let phases = Phases {
                serving: workers.serving.subscribe(),
                closing: workers.closing.subscribe(),
            };
            let leaving = leaving.clone();
            let work = move || worker(make(number), accepted, limits, leaving, ready, phases);
            let name = format!("{name}-{number}");
            workers.threads.push(thread::Builder::new().name(name).spawn(work)?);
            workers.inboxes.push(inbox);
            started.await.unwrap_or_else(|_| Err(io::Error::other("a worker died").into()))?;
        }
        Ok(workers)
    }

    /// Accepts connections until `stop` resolves, and those that clients have made by then. Then the
    /// requests in flight may finish within `limits.drain`, and everything is closed.
    pub async fn serve(
        self,
        listener: impl Into<Listener>,
        limits: HttpLimits,
        stop: impl Future<Output = ()>,
    ) {
        let listener = listener.into();
        let mut dispatch = Dispatch {
            listener: &listener,
            places: Places::new(limits.connections),
            refuser: Refuser::default(),
            inboxes: self.inboxes.iter().cycle(),
        };
        dispatch.until(stop).await;
        refuse_new(&listener.listener);
        let finish_handshakes = sleep(HANDSHAKE_MAX.min(limits.stop_delay));
        let rest = async {
            dispatch.until(finish_handshakes).await;
            dispatch.until(std::future::ready(())).await;
        };
        if timeout(limits.drain, rest).await.is_err() {
            warn!("not every new connection found a place in time");
        }
        drop(listener);
        // Closed inboxes tell the workers to shut down.
        drop(self.inboxes);
        // A worker may use another one's resources until its own last connection is closed. Every
        // worker closes its own connections within the same time.
        if timeout(limits.drain + SHUTDOWN_SLACK, self.serving.closed()).await.is_err() {
            warn!("a thread did not end its connections in time");
        }
        drop(self.closing);
        let joining =
            self.threads.into_iter().map(|thread| tokio::task::spawn_blocking(|| thread.join()));
        match timeout(3 * SHUTDOWN_SLACK, join_all(joining)).await {
            Ok(joined) if joined.iter().all(|joined| matches!(joined, Ok(Ok(())))) => {}
            Ok(_) => error!("a worker panicked"),
            Err(_) => error!("a worker did not end in time"),
        }
    }
}

/// Sends each connection to the next worker in turn.
struct Dispatch<'a> {
    listener: &'a Listener,
    places: Places,
    refuser: Refuser,
    inboxes: Cycle<slice::Iter<'a, mpsc::Sender<Accepted>>>,
}

impl Dispatch<'_> {
    /// Accepts connections until `stop` resolves and no more connection waits. A connection that was
    /// accepted is never dropped.
    async fn until(&mut self, stop: impl Future<Output = ()>) {
        let Listener { listener, tls } = self.listener;
        let mut stop = pin!(stop);
        loop {
            // In this order, so that no connection is closed before another one has come.
            let stream = tokio::select! {
                biased;
                stream = accept(listener, &mut self.places) => stream,
                () = &mut stop => return,
            };
            let Some(place) = self.places.take().await else {
                self.refuser.refuse(stream, tls.is_some());
                continue;
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
}

/// Makes the kernel drop the first packet of each new connection, while those that it has answered are
/// still accepted. Closing the listener resets every connection that waits to be accepted, although its
/// client may have sent a request. A client whose first packet was dropped repeats it after a second, and
/// is then refused, or reaches the next service on this port.
#[cfg(target_os = "linux")]
fn refuse_new(listener: &TcpListener) {
    use socket2::{SockFilter, SockRef};
    // Classic BPF (linux/bpf_common.h), applied from the TCP header on. Byte 13 has the flags.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&program) {
        warn!(%error, "cannot refuse new connections in order");
    }
}

/// Elsewhere a connection that is made at the last moment may be reset.
#[cfg(not(target_os = "linux"))]
fn refuse_new(_: &TcpListener) {}

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

/// Tells the workers and [`Workers::serve`] how far the shutdown is.
struct Phases {
    /// Dropped after the worker's last connection.
    serving: watch::Receiver<()>,
    /// Closed when no worker has a connection left.
    closing: watch::Receiver<()>,
}

/// A worker's thread: makes its routes, serves its connections, and closes its resources.
fn worker<R: Into<Front>, C: Future<Output = ()>, E: From<io::Error>>(
    making: impl Future<Output = Result<(R, C), E>>,
    accepted: mpsc::Receiver<Accepted>,
    limits: HttpLimits,
    leaving: Leaving,
    ready: oneshot::Sender<Result<(), E>>,
    mut phases: Phases,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error.into()))),
    };
    runtime.block_on(async {
        match making.await {
            Ok((routes, close)) => {
                drop(ready.send(Ok(())));
                let front = routes.into();
                serve_all(accepted, Serving { front, limits, leaving }).await;
                drop(phases.serving);
                // The sender signals by being dropped, which is an error here.
                let _ = phases.closing.changed().await;
                close.await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // Does not wait for a look-up of a host's name: its thread cannot be stopped.
    runtime.shutdown_background();
}

async fn serve_all(mut accepted: mpsc::Receiver<Accepted>, serving: Serving) {
    // The receiver signals shutdown; dropping it reports that the connection has closed.
    let (open, shutdown) = watch::channel(());
    while let Some(Accepted { stream, tls, place }) = accepted.recv().await {
        let (serving, shutdown) = (serving.clone(), shutdown.clone());
        match (TcpStream::from_std(stream), tls) {
            (Ok(stream), None) => {
                tokio::spawn(serve(place, stream, serving, shutdown));
            }
            (Ok(stream), Some(tls)) => {
                tokio::spawn(serve_tls(tls, place, stream, serving, shutdown));
            }
            (Err(error), _) => warn!(%error, "cannot take a connection over"),
        }
    }
    drop(shutdown);
    open.send_replace(());
    if timeout(serving.limits.drain, open.closed()).await.is_err() {
        warn!("connections were still open at the end of the drain time");
    }
}
