//! `application/x-ndjson`: one change a line, and one result a line, in order, while the request still
//! arrives.
//!
//! Two tasks serve a stream. The reader parses lines and sends their changes on their way; the
//! [`writer`](super::writer) waits for the answers and sends the results. Between them is the
//! [`Window`]: lines that were read and not answered. When it is full the reader waits, so a client that
//! does not read is not read from, and memory is bounded.
//!
//! A blank line is skipped: it has no result. A line without an end is a line if the body ends there,
//! but not if the client hangs up.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, header};
use futures_util::FutureExt;
use futures_util::future::poll_immediate;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Duration, timeout};

use super::items::{self, Items};
use super::lines::{Line, Lines};
use super::window::{Progress, Window};
use super::writer::{Chunk, Read, Writer};
use crate::approach::bulk::Bulk;
use crate::http::app::App;
use crate::http::body::{CHANGE, not_json};
use crate::http::error::HttpError;
use crate::http::key;
use crate::http::response::of_type;
use crate::http::streaming::{Attended, Connecting, Link, Part, output, streaming};
use crate::http::wire::{KEYS_OF_CHANGES, NDJSON};

/// The most lines that are sent on their way together.
const CHUNK_LINES_MAX: usize = 512;

/// The most chunks in flight. The window bounds their lines.
const CHUNKS_MAX: usize = 256;

/// How long the rest of a stream that was ended early is read and dropped. Closing a socket with unread
/// bytes resets the connection, and the client would lose the last lines.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Responds to a stream.
pub(super) async fn respond(app: &App, request: Request) -> Result<Response<Body>, HttpError> {
    if request.headers().contains_key(key::NAME) {
        return Err(HttpError::bad_request(KEYS_OF_CHANGES));
    }
    let place = app.room.for_stream()?;
    let expects = request.headers().contains_key(header::EXPECT);
    let mut body = request.into_body();
    let first = poll_immediate(body.frame()).await.flatten();
    if expects {
        // The body was polled, so hyper sends `100 Continue` now. It never does after the response's
        // head.
        yield_now().await;
    }
    let (mark, connecting) = streaming();
    let (output, frames) = output();
    let running = run(Arc::clone(app), body, first, output, connecting);
    // Its place must last as long as its task, which may outlive the connection.
    tokio::spawn(running.map(|()| drop(place)));
    let mut response = of_type(NDJSON, frames);
    response.extensions_mut().insert(mark);
    Ok(response)
}

type BodyFrame = Result<Frame<Bytes>, axum::Error>;

async fn run(
    app: App,
    body: Body,
    first: Option<BodyFrame>,
    output: mpsc::Sender<Part>,
    connecting: Connecting,
) {
    let Some(Attended { link, request }) = connecting.connection().await else { return };
    let (window, progress) = (Window::new(&app.room), Progress::begin(app.idle_limit));
    let (read, chunks) = mpsc::channel(CHUNKS_MAX);
    let writer = Writer::new(output, progress.clone(), Arc::clone(&link), request);
    // It outlives the client: the locks of keys are held until their changes are answered.
    let writing = tokio::spawn(writer.run(chunks));
    let bulk = app.approaches.bulk();
    drop(app);
    let mut reader = Reader { body, lines: Lines::default(), bulk, window, progress, read };
    let end = reader.run(first, &link).await;
    let has_rest = end.is_some();
    let _ = reader.read.send(Read::End(end)).await;
    let Reader { mut body, read, .. } = reader;
    drop(read);
    let _ = writing.await;
    if has_rest {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        let _ = timeout(LINGER_MAX, rest).await;
    }
}

struct Reader {
    body: Body,
    lines: Lines,
    bulk: Bulk,
    window: Window,
    progress: Progress,
    read: mpsc::Sender<Read>,
}

impl Reader {
    /// Reads to the end of the stream. Returns why it was ended early.
    async fn run(&mut self, mut first: Option<BodyFrame>, link: &Link) -> Option<HttpError> {
        loop {
            let frame = match first.take() {
                Some(frame) => Some(frame),
                None => tokio::select! {
                    biased;
                    () = link.until_shutdown() => return Some(HttpError::Stopping),
                    frame = self.body.frame() => frame,
                    () = self.progress.until_idle(&self.window) => {
                        return Some(HttpError::BodyTimeout);
                    }
                },
            };
            match frame {
                Some(Ok(frame)) => {
                    self.progress.note();
                    self.accept(&frame.into_data().unwrap_or_default()).await;
                }
                Some(Err(_)) => return Some(HttpError::BodyUnreadable),
                None => {
                    self.accept_last().await;
                    return None;
                }
            }
        }
    }

    async fn accept(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut lines = Parsed::default();
            while lines.items.len() < CHUNK_LINES_MAX
                && let Some(line) = self.lines.next(&mut rest)
            {
                lines.push(&line);
            }
            self.submit(lines).await;
        }
    }

    async fn accept_last(&mut self) {
        let mut lines = Parsed::default();
        if let Some(line) = self.lines.last() {
            lines.push(&line);
        }
        self.submit(lines).await;
    }

    /// Waits for the window and for places in the queues.
    async fn submit(&mut self, lines: Parsed) {
        let Parsed { items, cost } = lines;
        if cost == 0 {
            return;
        }
        // Neither is ever closed.
        let Some(in_window) = self.window.admit(cost).await else { return };
        let (changes, unanswered) = items.split();
        let submitted = self.bulk.submit(changes).await;
        let chunk = Chunk { submitted, unanswered, in_window };
        // The writer ends after the reader.
        let _ = self.read.send(Read::Lines(Box::new(chunk))).await;
    }
}

/// Lines, and what they count in the window.
#[derive(Default)]
struct Parsed {
    items: Items,
    cost: usize,
}

impl Parsed {
    fn push(&mut self, line: &Line<'_>) {
        match line {
            Line::Text(text) if text.trim_ascii().is_empty() => {}
            Line::Text(text) => {
                let parsed = str::from_utf8(text).map_err(|error| not_json(CHANGE, error));
                self.items.push(parsed.and_then(items::change));
                self.cost += Window::cost(text);
            }
            Line::TooLong => {
                self.items.push(Err(HttpError::LineTooLong));
                self.cost += Window::cost(&[]);
            }
        }
    }
}
