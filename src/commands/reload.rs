//! SIGHUP: read tokens and certificate again.

use std::convert::Infallible;
use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::CommandError;
use crate::service::Service;

/// SIGHUP. After [`Hangups::listen`] it no longer kills the process.
pub(super) struct Hangups(Signal);

impl Hangups {
    pub(super) fn listen() -> Result<Self, CommandError> {
        signal(SignalKind::hangup()).map(Self).map_err(CommandError::Signals)
    }

    /// Reloads at each signal. May be dropped at any time.
    pub(super) async fn reload(mut self, service: &Service) -> Infallible {
        while self.0.recv().await.is_some() {
            service.reload().await;
        }
        // The runtime can receive no signal any more.
        pending().await
    }
}
