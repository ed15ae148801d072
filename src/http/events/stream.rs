//! The task of a stream: takes entries from the feed, and sends them as fast as the client takes them.

use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::text;
use crate::feed::Watch;
use crate::http::auth::Pass;
use crate::http::streaming::{Attended, Connecting, PARTS_MAX, Part};
use crate::http::wire::HEARTBEAT;

/// How long a client may take for what was sent before the end of its stream. A stop waits no longer.
const LAST_PARTS_MAX: Duration = Duration::from_secs(2);

/// A stream of events.
pub(super) struct Stream {
    pub(super) watch: Watch,
    pub(super) output: mpsc::Sender<Part>,
    pub(super) pass: Pass,
    /// A client that takes nothing for so long is cut.
    pub(super) idle_limit: Duration,
}

/// Nothing more can be sent.
enum Lost {
    /// The client has taken nothing for too long.
    Stalled,
    /// The connection has ended.
    Closed,
}

impl Stream {
    /// Sends events until the client is gone, the service stops, or the token is taken back.
    pub(super) async fn run(mut self, begin: Bytes, connecting: Connecting) {
        let Some(Attended { link, .. }) = connecting.connection().await else { return };
        let sent = self.send_all(begin, pin!(link.until_shutdown())).await;
        if let Err(Lost::Stalled) = sent {
            link.cut();
        }
    }

    async fn send_all(
        &mut self,
        begin: Bytes,
        shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Lost> {
        send(&self.output, begin, self.idle_limit).await?;
        let last = self.send_events(shutdown).await?;
        send(&self.output, last, LAST_PARTS_MAX).await?;
        send_part(&self.output, Part::End, LAST_PARTS_MAX).await?;
        // Until these have been taken.
        let _ = room(LAST_PARTS_MAX, self.output.reserve_many(PARTS_MAX)).await?;
        Ok(())
    }

    /// Returns what is to be sent last.
    async fn send_events(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Bytes, Lost> {
        // A heartbeat must have time to reach the client before the stream counts as idle.
        let period = HEARTBEAT.min(self.idle_limit / 3);
        let mut beats = interval_at(Instant::now() + period, period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(text::STOPPING),
                _ = beats.tick() => {
                    if !self.pass.is_valid() {
                        return Ok(text::INVALID_TOKEN);
                    }
                    text::HEARTBEAT
                }
                entries = self.watch.next() => match entries {
                    Some(entries) => entries.bytes,
                    None => return Ok(text::ENDED),
                },
            };
            // What is not sent is what the client resumes with.
            tokio::select! {
                biased;
                sent = send(&self.output, next, self.idle_limit) => sent?,
                () = &mut shutdown => return Ok(text::STOPPING),
            }
        }
    }
}

async fn send(output: &mpsc::Sender<Part>, text: Bytes, limit: Duration) -> Result<(), Lost> {
    send_part(output, Part::Text(text), limit).await
}

async fn send_part(output: &mpsc::Sender<Part>, part: Part, limit: Duration) -> Result<(), Lost> {
    room(limit, output.reserve()).await?.send(part);
    Ok(())
}

/// Waits until the connection has taken enough of what was sent before.
async fn room<T>(
    limit: Duration,
    reserving: impl Future<Output = Result<T, mpsc::error::SendError<()>>>,
) -> Result<T, Lost> {
    match timeout(limit, reserving).await {
        Ok(reserved) => reserved.map_err(|_| Lost::Closed),
        Err(_) => Err(Lost::Stalled),
    }
}
