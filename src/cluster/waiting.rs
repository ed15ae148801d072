//! Waiting for files and processes without blocking the async threads.

use std::time::{Duration, Instant};

/// How often files and processes are polled.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(10);

/// Waits until the condition holds, for `patience` at most. Returns whether it holds.
pub(super) async fn wait_until(patience: Duration, condition: impl Fn() -> bool) -> bool {
    let give_up = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= give_up {
            return false;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    true
}

/// Runs blocking work off the async threads. A panic of the work resumes in the caller.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
