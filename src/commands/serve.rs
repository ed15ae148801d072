//! `plimsoll serve`: the service itself.

use sd_notify::NotifyState;
use tokio::time::sleep;
use tracing::{info, warn};

use super::error::CommandError;
use super::reload::Hangups;
use super::signals::Signals;
use crate::config::Config;
use crate::service::{Service, StartError};

/// Starts the service and serves until SIGINT or SIGTERM. Then announces the stop, and after
/// `STOP_DELAY_SECS`, or at a second signal, shuts down gracefully. Such a signal during the start ends it
/// at once, which is no error. SIGHUP makes it read tokens and certificate again.
///
/// # Errors
/// [`CommandError::Start`] with the reason. Then nothing is left running.
pub async fn serve(config: &Config) -> Result<(), CommandError> {
    // First, so that a signal during the start does not kill a half-started service.
    let mut signals = Signals::listen()?;
    let hangups = Hangups::listen()?;
    let told_to_stop = async {
        let signal = signals.next().await;
        info!(signal, "stopping before the start is complete");
    };
    let service = match Service::start_unless(config, told_to_stop).await {
        Err(StartError::Stopped) => return Ok(()),
        started => started?,
    };
    tell(NotifyState::Ready);
    let signal = tokio::select! {
        signal = signals.next() => signal,
        never = hangups.reload(&service) => match never {},
    };
    info!(signal, "stopping");
    tell(NotifyState::Stopping);
    service.leave();
    tokio::select! {
        () = sleep(config.http.stop_delay) => {}
        _ = signals.next() => {}
    }
    service.stop().await;
    Ok(())
}

/// Tells systemd, where it runs the service (`Type=notify`).
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "cannot tell the service manager");
    }
}
