//! Serves one connection, from its first request until it is closed.
//!
//! This file drives hyper's own HTTP/1 connection instead of using `axum::serve`, which has no
//! time-out for a silent or slow client.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::FutureExt;
use futures_util::future::poll_immediate;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{unconstrained, yield_now};
use tokio::time::{Instant, sleep_until};
use tower::Service;
use tracing::debug;

use super::error::response_to_panic;
use super::places::Place;
use super::refusal::Refusing;
use super::streaming::Link;
use super::wire::HEAD_BYTES_MAX;

/// Responds to one request after the other with `router`. The connection closes when either side
/// closes it, when it was idle for `limit`, or when it is idle and another one needs its `place`. A
/// change of `shutdown` closes it after the current response, or at once if there is none.
pub(super) async fn serve(
    place: Place,
    stream: TcpStream,
    router: Router,
    limit: Duration,
    mut shutdown: watch::Receiver<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the connection was gone at once");
        return;
    }
    let mut stream = Refusing::new(stream);
    // The stream is only lent, so that hyper's buffers are freed before it lingers.
    serve_requests(&place, &mut stream, router, limit, shutdown.clone()).await;
    tokio::select! {
        () = stream.linger() => {}
        _ = shutdown.changed() => {}
        () = place.until_asked_to_leave() => {}
    }
    // The socket is closed by now, as `Place` requires.
    drop(place);
}

async fn serve_requests(
    place: &Place,
    stream: &mut Refusing,
    router: Router,
    limit: Duration,
    shutdown: watch::Receiver<()>,
) {
    let pause = place.pause();
    let service = {
        let (pause, link) = (Arc::clone(pause), Arc::new(Link::new(pause, &shutdown)));
        service_fn(move |request| {
            pause.interrupt();
            let link = Arc::clone(&link);
            let responding = respond(router.clone(), request);
            responding.map(move |result| result.map(|response| link.attend(response)))
        })
    };
    let mut connection = pin!(settings().serve_connection(stream, service));
    // Registers the task's waker with the channel. Once is enough, since a task is always polled
    // with the same waker. hyper-util's own graceful shutdown registers it at each poll: a twelfth
    // of a request's instructions. The timer and the place get the waker once, too.
    let mut waking = shutdown.clone();
    let mut changed = pin!(waking.changed());
    let _ = poll_immediate(changed.as_mut()).await;
    let mut timer = pin!(sleep_until(pause.ends(limit)));
    let _ = poll_immediate(unconstrained(timer.as_mut())).await;
    poll_fn(|context| place.listen(context)).await;
    let mut recheck = pin!(None);
    let mut is_shutting_down = false;
    let ended = poll_fn(|context| {
        if !is_shutting_down && shutdown.has_changed().unwrap_or(true) {
            is_shutting_down = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended.map_err(Some));
        }
        while timer.is_elapsed() {
            let ends = pause.ends(limit);
            if ends <= Instant::now() {
                return Poll::Ready(Err(None));
            }
            timer.as_mut().reset(ends);
            let _ = pin!(unconstrained(timer.as_mut())).poll(context);
        }
        let is_to_leave = place.is_to_leave(context);
        if pause.is_cut() {
            return Poll::Ready(Err(None));
        }
        if !is_to_leave {
            recheck.set(None);
            return Poll::Pending;
        }
        // A request that has just arrived must not be lost. The runtime polls the kernel before it
        // polls a task that has yielded, so hyper then sees the request.
        if recheck.is_none() {
            recheck.set(Some(yield_now()));
        }
        let rechecked = recheck.as_mut().as_pin_mut().expect("set above").poll(context);
        rechecked.map(|()| Err(None))
    });
    match ended.await {
        Ok(()) => {}
        Err(Some(error)) => debug!(%error, "a connection ended early"),
        Err(None) => debug!("nothing was asked for on a connection"),
    }
}

/// The settings of hyper's connections.
fn settings() -> http1::Builder {
    let mut settings = http1::Builder::new();
    settings
        // `Pause` does this: hyper's own makes, starts and drops a timer for each request.
        .header_read_timeout(None)
        // Responses are small: with the body copied behind the head, one plain write is enough.
        .writev(false)
        // A client that hangs up, or closes only its sending side, does not cancel its request.
        .half_close(true)
        // Bounds the memory that a client can take before its token is checked.
        .max_buf_size(HEAD_BYTES_MAX)
        // The same limit, but exact: a buffer may grow a little beyond its limit.
        .max_header_size(HEAD_BYTES_MAX);
    settings
}

/// Responds to one request. A panic of its handler is one 500, and the service continues.
fn respond<B>(
    mut router: Router,
    request: Request<B>,
) -> impl Future<Output = Result<Response<Body>, Infallible>>
where
    Router: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    // Handlers share only queues, and locks that recover from a panic.
    let responding = AssertUnwindSafe(router.call(request)).catch_unwind();
    responding.map(|result| result.unwrap_or_else(|panic| Ok(response_to_panic(&*panic))))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::places::Places;
    use super::*;

    #[tokio::test]
    async fn a_request_that_arrives_as_the_connection_has_to_leave_gets_a_response() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut places = Places::new(1);
        let place = places.take().await;
        let (_open, shutdown) = watch::channel(());
        let router = Router::new().route("/", get(async || "here"));
        let minute = Duration::from_secs(60);
        let mut connection = pin!(serve(place, stream, router, minute, shutdown));
        // The service has found nothing to read so far.
        assert!(poll_immediate(connection.as_mut()).await.is_none());
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut room = pin!(places.take());
        assert!(poll_immediate(room.as_mut()).await.is_none(), "there is only one place");

        // It is asked to leave before its runtime knows of the request.
        let mut response = vec![0; 15];
        let reading = async {
            client.read_exact(&mut response).await.unwrap();
            // The connection is idle now, and leaves.
            client.read_to_end(&mut response).await.unwrap();
        };
        tokio::join!(connection, reading, async { drop(room.await) });
        let text = String::from_utf8(response).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("here"), "{text}");
    }

    #[tokio::test]
    async fn a_panic_is_one_500_that_reveals_nothing() {
        let panics = async || -> StatusCode { panic!("a secret") };
        let router = Router::new().route("/", get(panics));
        let Ok(response) = respond(router, Request::new(Body::empty())).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        assert_eq!(body, r#"{"error":"Internal server error"}"#);
    }
}
