//! The server: accepts connections, dispatches them to threads, and closes them at shutdown.
//!
//! One thread accepts, and dispatches the connections in turn to the workers: as many threads as
//! there are cores, each with its own runtime. So one thread serves a request from start to end,
//! and all workers have equal shares. `SO_REUSEPORT` would share unevenly, and would share a taken
//! port with another process, where this server reports an error.

use std::io;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::accepting::{Accepted, Dispatch};
use super::connection::{Serving, serve, serve_tls};
use super::leaving::Leaving;
use super::listener::{Listener, refuse_new};
use super::observe::Front;
use crate::config::HttpLimits;

/// How long a client may take to complete its connection, whose first packet came before the listener
/// was about to close. One round trip.
const HANDSHAKE_MAX: Duration = Duration::from_millis(200);

/// The extra time at shutdown, beyond the time in which connections are closed.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(1);

/// The connections that are queued for one worker. Accepting waits while its queue is full.
const INBOX: usize = 256;

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
    /// Starts `count` threads with this name. Each calls `make` with its number, on its own runtime, and
    /// gets the routes and a future that closes their resources at shutdown.
    ///
    /// # Errors
    /// The first error of any `make`. The other threads then end.
    pub async fn start<M, F, R, C, E>(
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
        let mut dispatch = Dispatch::new(&listener, &self.inboxes, limits.connections);
        dispatch.until(stop).await;
        refuse_new(&listener.listener);
        let finish_handshakes = sleep(HANDSHAKE_MAX.min(limits.stop_delay));
        let rest = async {
            dispatch.until(finish_handshakes).await;
            dispatch.rest().await;
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
