//! One connection, from its first request to its end.
//!
//! hyper's own HTTP/1 connection is driven here instead of `axum::serve`, because that one has no
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
use super::wire::HEAD_BYTES_MAX;

/// Answers one request after the other with `router`, until one side closes the connection, or
/// until nothing has been asked for `limit`, or until it rests and somebody else needs its `place`. A
/// change of `end` closes it after the answer that is on its way, or at once.
pub(super) async fn carry(
    place: Place,
    stream: TcpStream,
    router: Router,
    limit: Duration,
    mut end: watch::Receiver<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the connection was gone at once");
        return;
    }
    let mut stream = Refusing::new(stream);
    // Lent, so that hyper's buffers are gone while the stream lingers.
    answer_requests(&place, &mut stream, router, limit, end.clone()).await;
    tokio::select! {
        () = stream.linger() => {}
        _ = end.changed() => {}
        () = place.until_asked_to_leave() => {}
    }
    // Now the socket is closed.
    drop(place);
}

async fn answer_requests(
    place: &Place,
    stream: &mut Refusing,
    router: Router,
    limit: Duration,
    end: watch::Receiver<()>,
) {
    let pause = place.pause();
    let service = {
        let pause = Arc::clone(pause);
        service_fn(move |request| {
            pause.interrupt();
            let pause = Arc::clone(&pause);
            answer(router.clone(), request).inspect(move |_| pause.resume())
        })
    };
    let mut connection = pin!(settings().serve_connection(stream, service));
    // Leaves the task's waker with the channel. Once is enough, since a task is always polled with
    // the same one; hyper-util's own graceful shutdown leaves it at each poll, a twelfth of the
    // instructions of a request. The same goes for the timer and the place.
    let mut waking = end.clone();
    let mut changed = pin!(waking.changed());
    let _ = poll_immediate(changed.as_mut()).await;
    let mut timer = pin!(sleep_until(pause.ends(limit)));
    let _ = poll_immediate(unconstrained(timer.as_mut())).await;
    poll_fn(|context| place.listen(context)).await;
    let mut second_look = pin!(None);
    let mut is_told = false;
    let ended = poll_fn(|context| {
        if !is_told && end.has_changed().unwrap_or(true) {
            is_told = true;
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
        if !place.is_to_leave(context) {
            second_look.set(None);
            return Poll::Pending;
        }
        // A request that came a moment ago is not lost: hyper sees it as soon as the runtime has
        // asked the kernel for news, which it does before it polls a task that has yielded.
        if second_look.is_none() {
            second_look.set(Some(yield_now()));
        }
        let looked = second_look.as_mut().as_pin_mut().expect("set above").poll(context);
        looked.map(|()| Err(None))
    });
    match ended.await {
        Ok(()) => {}
        Err(Some(error)) => debug!(%error, "a connection ended early"),
        Err(None) => debug!("nothing was asked for on a connection"),
    }
}

/// How hyper treats a connection.
fn settings() -> http1::Builder {
    let mut settings = http1::Builder::new();
    settings
        // Ours is `Pause`: hyper's own makes, starts and drops a timer for each request.
        .header_read_timeout(None)
        // Answers are small: copied behind their head they need one plain write.
        .writev(false)
        // A client that hangs up, or only closes its sending side, does not cancel its request.
        .half_close(true)
        // Bounds the memory that a client can take before anybody has looked at its token.
        .max_buf_size(HEAD_BYTES_MAX)
        // The same limit, but exact: a buffer may get a little longer than it has to.
        .max_header_size(HEAD_BYTES_MAX);
    settings
}

/// One panic is one 500; the service goes on.
fn answer<B>(
    mut router: Router,
    request: Request<B>,
) -> impl Future<Output = Result<Response<Body>, Infallible>>
where
    Router: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    // What handlers share with others is queues, and locks that recover.
    let answering = AssertUnwindSafe(router.call(request)).catch_unwind();
    answering.map(|ended| ended.unwrap_or_else(|panic| Ok(response_to_panic(&*panic))))
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
    async fn a_request_that_arrives_as_the_connection_has_to_leave_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut places = Places::new(1);
        let place = places.take().await;
        let (_open, end) = watch::channel(());
        let router = Router::new().route("/", get(async || "here"));
        let minute = Duration::from_secs(60);
        let mut connection = pin!(carry(place, stream, router, minute, end));
        // The service has found nothing to read so far.
        assert!(poll_immediate(connection.as_mut()).await.is_none());
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut room = pin!(places.take());
        assert!(poll_immediate(room.as_mut()).await.is_none(), "there is only one place");

        // It is asked to leave before its runtime knows of the request.
        let mut answer = vec![0; 15];
        let reading = async {
            client.read_exact(&mut answer).await.unwrap();
            // Now it rests, and leaves.
            client.read_to_end(&mut answer).await.unwrap();
        };
        tokio::join!(connection, reading, async { drop(room.await) });
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn a_panic_is_one_500_that_tells_nothing() {
        let panics = async || -> StatusCode { panic!("a secret") };
        let router = Router::new().route("/", get(panics));
        let Ok(answer) = answer(router, Request::new(Body::empty())).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(answer.into_body(), 1_000).await.unwrap();
        assert_eq!(body, r#"{"error":"Internal server error"}"#);
    }
}
