//! The response to a client for whom there is no place.

use std::net::Shutdown;
use std::sync::{Arc, LazyLock};

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, timeout};
use tracing::warn;

use super::error::error_body;
use super::refusal::drain;
use crate::ledger::ChangeError;

/// How many refused clients are read from at a time, so that they can read their response. Beyond that,
/// a connection is closed at once, and its client may see a reset instead.
const LINGERING_MAX: usize = 256;

/// How long one is read from.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// The whole response, made once. The request is not read.
static RESPONSE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let body = error_body(&ChangeError::Busy("").to_string());
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    response.into_bytes()
});

/// The shortest time between two log lines. A line for each of thousands of refusals a second would cost
/// more than the refusals.
const LOGGED_EVERY: Duration = Duration::from_secs(1);

/// Refuses connections. Costs the thread that accepts them two system calls each.
pub(super) struct Refuser {
    lingering: Arc<Semaphore>,
    /// Since the last log line.
    refused: u64,
    logged: Option<Instant>,
}

impl Default for Refuser {
    fn default() -> Self {
        let lingering = Arc::new(Semaphore::new(LINGERING_MAX));
        Self { lingering, refused: 0, logged: None }
    }
}

impl Refuser {
    /// Responds with 503 and closes the connection. A client that speaks TLS could not read the response,
    /// and sees its connection end.
    pub(super) fn refuse(&mut self, stream: TcpStream, is_tls: bool) {
        self.refused += 1;
        if self.logged.is_none_or(|last| last.elapsed() >= LOGGED_EVERY) {
            self.logged = Some(Instant::now());
            let count = std::mem::take(&mut self.refused);
            warn!(count, "connections were refused: MAX_CONNECTIONS serve a request");
        }
        let socket = SockRef::from(&stream);
        // The buffer of a new connection has room for it. A client that is gone needs no response.
        let sent = if is_tls { Ok(0) } else { socket.send(&RESPONSE) };
        let sent = sent.and_then(|_| socket.shutdown(Shutdown::Write));
        let Ok(place) = Arc::clone(&self.lingering).try_acquire_owned() else { return };
        if sent.is_ok() {
            tokio::spawn(async move {
                // The connection is closed either way.
                let _ = timeout(LINGER_MAX, drain(stream)).await;
                drop(place);
            });
        }
    }
}
