//! Responses whose body is made while it is sent.
//!
//! Nearly every response is complete when its handler ends. For one that is not, the handler adds a
//! [`Streaming`] to it, and [`Link::attend`] does the rest: the connection counts as busy until the
//! body has ended, and the handler's task learns of the shutdown and can cut the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::Response;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::{mpsc, watch};

use super::leaving::Leaving;
use super::observe::Observed;
use super::places::Pause;

/// Marks a response, in its extensions.
#[derive(Clone)]
pub(super) struct Streaming(mpsc::Sender<Attended>);

/// Where the task that makes the body finds its connection.
pub(super) struct Connecting(mpsc::Receiver<Attended>);

/// A connection that sends a response, and the request that it is for.
pub(super) struct Attended {
    pub(super) link: Arc<Link>,
    pub(super) request: Option<Arc<Observed>>,
}

/// A connection, as the tasks that serve its requests see it.
pub(super) struct Link {
    pause: Arc<Pause>,
    shutdown: watch::Receiver<()>,
    leaving: Leaving,
}

/// The parts of a body that wait for the connection.
pub(super) const PARTS_MAX: usize = 2;

/// What is sent of a body.
pub(super) enum Part {
    Text(Bytes),
    /// Nothing more will come.
    End,
}

/// Takes the parts of a body, and the body.
pub(super) fn output() -> (mpsc::Sender<Part>, Body) {
    let (sender, receiver) = mpsc::channel(PARTS_MAX);
    (sender, Body::new(Output(receiver)))
}

struct Output(mpsc::Receiver<Part>);

impl hyper::body::Body for Output {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.0.poll_recv(context).map(|part| match part {
            Some(Part::Text(text)) => Some(Ok(Frame::data(text))),
            Some(Part::End) => None,
            // A response must not look complete if it is not.
            None => Some(Err(axum::Error::new("the stream's task has panicked"))),
        })
    }
}

/// For one response.
pub(super) fn streaming() -> (Streaming, Connecting) {
    let (sender, receiver) = mpsc::channel(1);
    (Streaming(sender), Connecting(receiver))
}

impl Connecting {
    /// The connection; `None` if it has ended before the response was sent.
    pub(super) async fn connection(mut self) -> Option<Attended> {
        self.0.recv().await
    }
}

impl Link {
    pub(super) fn new(
        pause: &Arc<Pause>,
        shutdown: &watch::Receiver<()>,
        leaving: Leaving,
    ) -> Self {
        Self { pause: Arc::clone(pause), shutdown: shutdown.clone(), leaving }
    }

    /// Ends the request, and begins the connection's pause when the response, or else its body, is
    /// complete.
    pub(super) fn attend(
        self: &Arc<Self>,
        mut response: Response<Body>,
        mut observed: Option<Observed>,
    ) -> Response<Body> {
        self.leaving.mark(&mut response);
        if let Some(observed) = &mut observed {
            observed.end(&mut response);
        }
        let Some(Streaming(to)) = response.extensions_mut().remove() else {
            self.pause.resume();
            return response;
        };
        let request = observed.map(|mut observed| {
            observed.keep_for_stream(&response);
            Arc::new(observed)
        });
        // An error means that the task has ended.
        let _ = to.try_send(Attended { link: Arc::clone(self), request: request.clone() });
        let busy = Busy { pause: Arc::clone(&self.pause), _request: request };
        response.map(|body| Body::new(BusyBody { body, _busy: busy }))
    }

    /// Resolves when the service shuts down.
    pub(super) async fn until_shutdown(&self) {
        // An error means that the sender was dropped, which is a shutdown as well.
        let _ = self.shutdown.clone().changed().await;
    }

    /// Closes the connection, whatever has yet to be sent.
    pub(super) fn cut(&self) {
        self.pause.cut();
    }
}

/// Begins the pause when it is dropped. Until then the request is in flight.
struct Busy {
    pause: Arc<Pause>,
    _request: Option<Arc<Observed>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.pause.resume();
    }
}

/// A body that keeps its connection busy.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
