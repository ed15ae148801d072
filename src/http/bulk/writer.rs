//! The writing half of a stream: waits for answers, and sends them as lines.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, timeout_at};

use super::items::{Unanswered, write_result};
use super::window::{InWindow, Progress};
use crate::approach::bulk::Submitted;
use crate::http::error::{Failures, HttpError, Reasons, write_item};
use crate::http::observe::Observed;
use crate::http::streaming::{Link, PARTS_MAX, Part};

/// A part of the response is sent when it has this many bytes, or when no other answer is ready.
const PART_BYTES: usize = 16 * 1024;

/// Lines that were sent on their way together.
pub(super) struct Chunk {
    pub(super) submitted: Submitted,
    pub(super) unanswered: Unanswered,
    /// They leave the window when they are answered.
    pub(super) in_window: InWindow,
}

/// What the reader passes to the writer.
pub(super) enum Read {
    Lines(Box<Chunk>),
    /// The stream is over; with an error, it was ended early.
    End(Option<HttpError>),
}

pub(super) struct Writer {
    /// `None` when the client is gone. The answers are awaited all the same.
    output: Option<mpsc::Sender<Part>>,
    progress: Progress,
    link: Arc<Link>,
    /// Results that are not sent yet, and their lines.
    text: String,
    unsent: Vec<InWindow>,
    failures: StreamFailures,
}

impl Writer {
    pub(super) fn new(
        output: mpsc::Sender<Part>,
        progress: Progress,
        link: Arc<Link>,
        request: Option<Arc<Observed>>,
    ) -> Self {
        let (text, unsent) = (String::new(), Vec::new());
        let failures = StreamFailures { request, failures: Failures::default(), logged: None };
        Self { output: Some(output), progress, link, text, unsent, failures }
    }

    /// Sends every result, in order, and then the error that has ended the stream, if any.
    pub(super) async fn run(mut self, mut chunks: mpsc::Receiver<Read>) {
        let mut next = chunks.recv().await;
        while let Some(read) = next {
            match read {
                Read::Lines(chunk) => self.write(*chunk).await,
                Read::End(error) => return self.end(error.as_ref()).await,
            }
            if self.text.len() >= PART_BYTES {
                self.send().await;
            }
            next = match chunks.try_recv() {
                Ok(read) => Some(read),
                Err(_) => {
                    self.send().await;
                    chunks.recv().await
                }
            };
        }
    }

    async fn end(mut self, error: Option<&HttpError>) {
        if let Some(error) = error {
            // Writing to a String cannot fail.
            let _ = write_item(&mut self.text, error);
            self.text.push('\n');
        }
        self.send().await;
        self.send_part(Part::End).await;
        // A client that does not take the last parts must not keep the connection busy for ever.
        self.has_room_for(PARTS_MAX).await;
    }

    async fn write(&mut self, chunk: Chunk) {
        let Chunk { submitted, unanswered, in_window } = chunk;
        if !submitted.is_complete() {
            self.send().await;
        }
        let answers = submitted.answers().await;
        let failures = unanswered.with(&answers, |result| {
            if self.output.is_some() {
                write_result(&mut self.text, result);
                self.text.push('\n');
            }
        });
        self.unsent.push(in_window);
        self.failures.add(failures);
    }

    async fn send(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.send_part(Part::Text(text.into())).await;
        }
        // Only now do these lines leave the window.
        self.unsent.clear();
    }

    async fn send_part(&mut self, part: Part) {
        if !self.has_room_for(1).await {
            return;
        }
        if let Some(output) = &self.output {
            // Nothing else takes the room.
            let _ = output.try_send(part);
        }
        self.progress.note();
    }

    /// Waits until the connection has room for so many parts. A client that has been still for too long
    /// is given up, and its connection is cut.
    async fn has_room_for(&mut self, parts: usize) -> bool {
        while let Some(output) = &self.output {
            let reserving = async { output.reserve_many(parts).await.map(drop) };
            match timeout_at(self.progress.ends(), reserving).await {
                Ok(Ok(())) => return true,
                // The client has sent something in the meantime.
                Err(_) if self.progress.ends() > Instant::now() => {}
                Err(_) => {
                    self.link.cut();
                    self.output = None;
                }
                Ok(Err(_)) => self.output = None,
            }
        }
        false
    }
}

/// How often the failures of a stream are logged while it runs.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// The errors of the service among the results of a stream. They are logged at once, then together once
/// a second, and at the end: not for each line of a stream that may have millions.
struct StreamFailures {
    request: Option<Arc<Observed>>,
    failures: Failures,
    logged: Option<Instant>,
}

impl StreamFailures {
    fn add(&mut self, failures: Failures) {
        if failures.is_empty() {
            return;
        }
        self.failures.merge(failures);
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_PERIOD) {
            self.log();
        }
    }

    fn log(&mut self) {
        self.logged = Some(Instant::now());
        let Reasons(reasons) = std::mem::take(&mut self.failures).into_reasons();
        if let Some(request) = &self.request {
            request.report(reasons);
        }
    }
}

impl Drop for StreamFailures {
    fn drop(&mut self) {
        if !self.failures.is_empty() {
            self.log();
        }
    }
}
