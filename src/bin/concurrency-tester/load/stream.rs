//! One stream of changes: lines are sent while results are read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use fastrand::Rng;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout_at};

use super::lines::{End, Line, Results};
use super::shared::Shared;
use crate::client::Connection;
use crate::contract::operation::Operation;
use crate::contract::request::line;
use crate::reply::Reply;

/// The most lines that are sent together.
const TOGETHER_MAX: usize = 8;

/// An answer that is no stream is an error, which is short.
const ERROR_BYTES_MAX: usize = 4 * 1024;

/// The body of the request: pieces that come one after another.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.get_mut().0.poll_recv(context);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Sends the lines over a connection of its own, which is cut once `cut_after` results are read. Returns
/// what was told about each line that may have been sent. `None` if nothing was sent.
pub(super) async fn send(
    shared: &Shared,
    target: usize,
    operations: &[Operation],
    cut_after: Option<usize>,
    rng: &mut Rng,
) -> Option<Vec<Line>> {
    let mut connection: Connection<Pieces> = shared.instances[target].open().await.ok()?;
    shared.counters.requests.fetch_add(1, Ordering::Relaxed);
    // One piece, so that a line is not called long before it is sent.
    let (sender, pieces) = mpsc::channel(1);
    let request = shared.instances[target].stream(Pieces(pieces));
    let mut called = Vec::with_capacity(operations.len());
    let mut results = Results::default();
    let end = {
        let writing = write(shared, operations, sender, &mut called, rng);
        let reading = read(shared, &mut connection, request, cut_after, &mut results);
        tokio::pin!(reading);
        tokio::select! {
            end = &mut reading => end,
            () = writing => reading.as_mut().await,
        }
    };
    // Closes the connection, so that a stream that was cut ends here.
    drop(connection);
    Some(results.told(&called, &end, shared.clock.now()))
}

async fn write(
    shared: &Shared,
    operations: &[Operation],
    sender: mpsc::Sender<Bytes>,
    called: &mut Vec<u64>,
    rng: &mut Rng,
) {
    let mut rest = operations;
    while !rest.is_empty() {
        let (some, others) = rest.split_at(rng.usize(1..=TOGETHER_MAX.min(rest.len())));
        rest = others;
        let mut piece = String::new();
        for operation in some {
            piece.push_str(&line(operation));
            piece.push('\n');
        }
        let now = shared.clock.now();
        called.extend(some.iter().map(|_| now));
        if sender.send(piece.into()).await.is_err() {
            return;
        }
        if rng.u8(..4) == 0 {
            sleep(Duration::from_micros(rng.u64(..2_000))).await;
        }
    }
}

async fn read(
    shared: &Shared,
    connection: &mut Connection<Pieces>,
    request: Request<Pieces>,
    cut_after: Option<usize>,
    results: &mut Results,
) -> End {
    let mut body = match timeout_at(shared.give_up(), connection.begin(request)).await {
        Err(_) => return End::TimedOut,
        Ok(Err(error)) => return End::Lost(error.to_string()),
        Ok(Ok(response)) if response.status() == 200 => response.into_body(),
        Ok(Ok(response)) => {
            let status = response.status().as_u16();
            let whole = http_body_util::Limited::new(response.into_body(), ERROR_BYTES_MAX);
            return match timeout_at(shared.give_up(), whole.collect()).await {
                Err(_) => End::TimedOut,
                Ok(Err(error)) => End::Lost(error.to_string()),
                Ok(Ok(body)) => {
                    let body = body.to_bytes().to_vec().into();
                    End::NoStream(Reply::Answer { status, body })
                }
            };
        }
    };
    loop {
        if cut_after.is_some_and(|count| results.count() >= count) {
            return End::Lost("the client hung up".to_owned());
        }
        match timeout_at(shared.give_up(), body.frame()).await {
            Err(_) => return End::TimedOut,
            Ok(None) => return End::Complete,
            Ok(Some(Err(error))) => return End::Lost(error.to_string()),
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    results.add(&piece, shared.clock.now());
                }
            }
        }
    }
}
