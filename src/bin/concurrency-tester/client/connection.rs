//! One open connection: sends one request after another, and reads the answers.

use std::error::Error;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response};
use tokio::task::JoinHandle;

use crate::reply::Reply;

/// No answer of a burst is longer if it is correct. Longer bodies are wrong and are truncated to this
/// length: 10,000 of them must fit into memory.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// An open connection. Dropping it closes it and aborts the request in flight.
pub(crate) struct Connection<B = Full<Bytes>> {
    pub(super) sender: SendRequest<B>,
    pub(super) driver: JoinHandle<()>,
    /// Of the last answer, in seconds.
    pub(crate) retry_after: Option<u64>,
}

impl<B: Body<Data = Bytes> + Send + 'static> Connection<B> {
    /// Sends one request of a burst and waits for its whole answer. The caller sets the time-out.
    pub(crate) async fn exchange(&mut self, request: Request<B>) -> Reply {
        self.exchange_up_to(BODY_BYTES_MAX, request).await
    }

    /// As [`Connection::exchange`], with another limit for the length of the body.
    pub(crate) async fn exchange_up_to(&mut self, bytes_max: usize, request: Request<B>) -> Reply {
        let answer = async {
            let response = self.begin(request).await?;
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            self.retry_after = seconds.and_then(|seconds| seconds.parse().ok());
            read(response, bytes_max).await
        };
        answer.await.unwrap_or_else(|error: hyper::Error| {
            Reply::ConnectionLost(with_causes(&error).into_boxed_str())
        })
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn begin(&mut self, request: Request<B>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Waits until another request can be sent. False if the connection has closed.
    pub(crate) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

impl<B> Drop for Connection<B> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read(response: Response<Incoming>, bytes_max: usize) -> hyper::Result<Reply> {
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    // Read to the end even if the rest is discarded: otherwise the answer may be incomplete.
    while let Some(frame) = incoming.frame().await {
        if let Ok(piece) = frame?.into_data() {
            let room = bytes_max - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }
    // Copied to its exact size: the received piece would keep the whole read buffer alive.
    Ok(Reply::Answer { status, body: body.into_boxed_slice() })
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
