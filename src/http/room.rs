//! The memory of bulks, bounded for each thread that serves requests.
//!
//! A body of a bulk may be 256 times as long as any other. Without a bound, as many clients as may be
//! connected could each send such a body slowly, and memory would run out.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::HttpError;
use crate::ledger::ChangeError;

/// The bytes of all bodies that are being read: thirty-two of the longest.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The lines of all streams that were read and are not answered: thirty-two full windows.
const LINES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The streams of one thread. A stream outlives its connection until its lines are answered, so clients
/// that hang up and come again could start any number of them.
const STREAMS_MAX: usize = 1_024;

/// The room of one thread. Clones share it.
#[derive(Clone)]
pub struct Room {
    bodies: Arc<Semaphore>,
    lines: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self {
            bodies: semaphore(BODIES_BYTES_MAX),
            lines: semaphore(LINES_BYTES_MAX),
            streams: semaphore(STREAMS_MAX),
        }
    }
}

impl Room {
    /// Takes room for a body until the result is dropped.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] when there is not enough.
    pub(super) fn for_body(&self, bytes: usize) -> Result<OwnedSemaphorePermit, HttpError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.bodies).try_acquire_many_owned(bytes).map_err(|_| {
            HttpError::Change(ChangeError::Busy("the bodies of other bulks take all the room"))
        })
    }

    /// Takes room for a stream until the result is dropped.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] when there are too many.
    pub(super) fn for_stream(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        let room = Arc::clone(&self.streams).try_acquire_owned();
        room.map_err(|_| HttpError::Change(ChangeError::Busy("too many streams are open")))
    }

    /// Waits for room for lines. `None` never happens.
    pub(super) async fn for_lines(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.lines).acquire_many_owned(bytes).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_room_until_it_is_dropped() {
        let room = Room::default();
        let most = room.for_body(BODIES_BYTES_MAX).unwrap();
        assert!(matches!(room.for_body(1), Err(HttpError::Change(ChangeError::Busy(_)))));
        drop(most);
        assert!(room.for_body(1).is_ok());
    }

    #[test]
    fn streams_beyond_the_most_are_refused() {
        let room = Room::default();
        let mut streams: Vec<_> = (0..STREAMS_MAX).map(|_| room.for_stream().unwrap()).collect();
        assert!(matches!(room.for_stream(), Err(HttpError::Change(ChangeError::Busy(_)))));
        streams.pop();
        assert!(room.for_stream().is_ok());
    }
}
