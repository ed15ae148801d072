//! The addresses that are served.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::error::StartError;
use crate::config::HttpLimits;
use crate::http::credentials::Credentials;
use crate::http::listener::{Bound, Listener};
use crate::http::server::Workers;

/// Where callers come in, before anything is served.
pub(super) struct Entrance {
    pub(super) credentials: Credentials,
    pub(super) public: Door,
    pub(super) internal: Option<Door>,
}

/// An address that is taken and not yet listened on.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    bound: Bound,
}

impl Door {
    pub(super) fn bind(address: SocketAddr) -> Result<Self, StartError> {
        let bound = Bound::to(address).map_err(|source| StartError::Listen { address, source })?;
        Ok(Self { address, bound })
    }

    pub(super) fn open(self) -> Result<TcpListener, StartError> {
        let Self { address, bound } = self;
        bound.listen().map_err(|source| StartError::Listen { address, source })
    }
}

/// An address that is served.
pub(super) struct Serving {
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    pub(super) fn start(
        workers: Workers,
        listener: Listener,
        limits: HttpLimits,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(workers.serve(listener, limits, async {
            // An error means that the service was dropped, which stops it as well.
            let _ = stopped.await;
        }));
        Ok(Self { address, stop, task })
    }

    /// Answers the requests in flight.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the accept loop panicked");
        }
    }
}
