//! Serves one connection, from its first request until it is closed.
//!
//! This file drives hyper's own HTTP/1 connection instead of using `axum::serve`, which has no
//! time-out for a silent or slow client.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{poll_immediate, ready};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{unconstrained, yield_now};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::rustls::ServerConfig;
use tracing::debug;

use super::leaving::Leaving;
use super::observe::Front;
use super::places::{Patience, Pause, Place};
use super::refusal::Refusing;
use super::streaming::Link;
use super::tls;
use super::wire::HEAD_BYTES_MAX;
use crate::config::HttpLimits;

/// What all connections of a thread share.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) front: Front,
    pub(super) limits: HttpLimits,
    pub(super) leaving: Leaving,
}

/// How long a connection may be idle at shutdown. A client that has just got its last response, or has
/// just connected, may have sent a request that is not here yet.
const IDLE_AT_SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// Serves one connection in plain HTTP; see [`serve_stream`].
// Not an `async fn`: its future would hold everything twice.
pub(super) fn serve(
    place: Place,
    stream: TcpStream,
    serving: Serving,
    shutdown: watch::Receiver<()>,
) -> impl Future<Output = ()> {
    match stream.set_nodelay(true) {
        Ok(()) => serve_stream(place, stream, serving, shutdown).left_future(),
        Err(error) => {
            debug!(%error, "the connection was gone at once");
            ready(()).right_future()
        }
    }
}

/// Serves one connection over TLS; see [`serve_stream`]. The handshake may take as long as a head.
///
/// A function of its own, because the future of a connection over TLS is much larger.
pub(super) async fn serve_tls(
    tls: Arc<ServerConfig>,
    place: Place,
    stream: TcpStream,
    serving: Serving,
    shutdown: watch::Receiver<()>,
) {
    let HttpLimits { head, stop_delay, .. } = serving.limits;
    // A copy, so that the shutdown is still news for what follows the handshake.
    let mut stopping = shutdown.clone();
    let stopped = async {
        // An error means that the sender was dropped, which is a shutdown as well.
        let _ = stopping.changed().await;
        sleep(IDLE_AT_SHUTDOWN_MAX.min(stop_delay)).await;
    };
    let accepted = tokio::select! {
        accepted = timeout(head, tls::accept(tls, stream)) => accepted.ok().flatten(),
        () = stopped => None,
        () = place.until_asked_to_leave() => None,
    };
    if let Some(stream) = accepted {
        serve_stream(place, stream, serving, shutdown).await;
    }
}

/// Responds to one request after the other. The connection closes when either side closes it, when it
/// was idle for too long, or when it is idle and another one needs its `place`. A change of `shutdown`
/// closes it after the current response, or when it has been idle for a short time.
async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    place: Place,
    stream: S,
    serving: Serving,
    mut shutdown: watch::Receiver<()>,
) {
    let _open = serving.front.connection();
    let mut stream = Refusing::new(stream, place.pause());
    // The stream is only lent, so that hyper's buffers are freed before it lingers.
    serve_requests(&place, &mut stream, serving, shutdown.clone()).await;
    tokio::select! {
        () = stream.linger() => {}
        _ = shutdown.changed() => {}
        () = place.until_asked_to_leave() => {}
    }
    // The socket is closed by now, as `Place` requires.
    drop(place);
}

async fn serve_requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    place: &Place,
    stream: &mut Refusing<S>,
    Serving { front, limits, leaving }: Serving,
    shutdown: watch::Receiver<()>,
) {
    let pause = place.pause();
    let service = {
        let (pause, link) = (Arc::clone(pause), Arc::new(Link::new(pause, &shutdown, leaving)));
        service_fn(move |request| {
            pause.interrupt();
            let (link, observed) = (Arc::clone(&link), front.begin(&request));
            let responding = front.respond(request);
            responding.map(move |result| result.map(|response| link.attend(response, observed)))
        })
    };
    let mut connection = pin!(settings().serve_connection(stream, service));
    // Registers the task's waker with the channel. Once is enough, since a task is always polled
    // with the same waker. hyper-util's own graceful shutdown registers it at each poll: a twelfth
    // of a request's instructions. The timer and the place get the waker once, too.
    let mut waking = shutdown.clone();
    let mut changed = pin!(waking.changed());
    let _ = poll_immediate(changed.as_mut()).await;
    let mut patience = Patience::begin(pause, limits);
    let mut timer = pin!(sleep_until(Instant::now() + limits.head));
    let _ = poll_immediate(unconstrained(timer.as_mut())).await;
    poll_fn(|context| place.listen(context)).await;
    let mut recheck = pin!(None);
    let (mut is_shutting_down, mut is_closing) = (false, false);
    let ended = poll_fn(|context| {
        if !is_shutting_down && shutdown.has_changed().unwrap_or(true) {
            is_shutting_down = true;
            patience.hurry(IDLE_AT_SHUTDOWN_MAX.min(limits.stop_delay));
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended.map_err(Some));
        }
        let is_to_leave =
            place.is_to_leave(context) || has_expired(&mut timer, &mut patience, pause, context);
        if pause.is_cut() {
            return Poll::Ready(Err(None));
        }
        if !is_to_leave || is_closing {
            recheck.set(None);
            return Poll::Pending;
        }
        // A request that has just arrived must not be lost. The runtime polls the kernel before it
        // polls a task that has yielded, so hyper then sees the request.
        if recheck.is_none() {
            recheck.set(Some(yield_now()));
        }
        task::ready!(recheck.as_mut().as_pin_mut().expect("set above").poll(context));
        if !is_shutting_down {
            return Poll::Ready(Err(None));
        }
        // The last response may still be on its way to a slow client, which has until the end of the
        // drain time.
        is_closing = true;
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(context).map_err(Some)
    });
    match ended.await {
        Ok(()) => {}
        Err(Some(error)) => debug!(%error, "a connection ended early"),
        Err(None) => debug!("nothing was asked for on a connection"),
    }
}

/// Whether the pause has lasted too long. Sets the timer anew where it is needed.
fn has_expired(
    timer: &mut Pin<&mut Sleep>,
    patience: &mut Patience,
    pause: &Pause,
    context: &mut Context<'_>,
) -> bool {
    loop {
        let ends = patience.ends(pause);
        // Most often the timer is early: it is set again only where it elapses, or would be late.
        if !timer.is_elapsed() && ends.is_none_or(|ends| ends >= timer.deadline()) {
            return false;
        }
        let now = Instant::now();
        if ends.is_some_and(|ends| ends <= now) {
            return true;
        }
        timer.as_mut().reset(ends.unwrap_or(now + patience.idle()));
        let _ = pin!(unconstrained(timer.as_mut())).poll(context);
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Duration;

    use super::super::places::Places;
    use super::*;

    #[tokio::test]
    async fn a_request_that_arrives_as_the_connection_has_to_leave_gets_a_response() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut places = Places::new(1);
        let place = places.take().await.unwrap();
        let (_open, shutdown) = watch::channel(());
        let front = Front::from(Router::new().route("/", get(async || "here")));
        let minute = Duration::from_secs(60);
        let limits = HttpLimits {
            connections: 1,
            head: minute,
            body: minute,
            idle: minute,
            stop_delay: minute,
            drain: minute,
        };
        let serving = Serving { front, limits, leaving: Leaving::default() };
        let mut connection = pin!(serve(place, stream, serving, shutdown));
        // The service has found nothing to read so far.
        assert!(poll_immediate(connection.as_mut()).await.is_none());
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
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
}
