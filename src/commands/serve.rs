//! `plimsoll serve`: the service itself.

use tracing::info;

use super::error::CommandError;
use super::signals::Signals;
use crate::config::Config;
use crate::service::Service;

/// Starts the service and serves until SIGINT or SIGTERM, then stops in order.
///
/// # Errors
/// [`CommandError::Start`] with the reason; nothing is left running then.
pub async fn serve(config: &Config) -> Result<(), CommandError> {
    // Before anything is started, so that no signal finds a half-started service unprepared.
    let mut signals = Signals::listen()?;
    let service = Service::start(config).await?;
    let signal = signals.next().await;
    info!(signal, "stopping");
    service.stop().await;
    Ok(())
}
