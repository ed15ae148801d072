//! Responses to a request head that is malformed or too large.
//!
//! hyper itself refuses such a head, with an empty body, and the router never sees the request.
//! [`Refusing`] sits between hyper and the socket. It recognizes these refusals and adds the body
//! that every error has.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

use super::error::{HttpError, error_body};
use super::observe::make_request_id;
use super::places::Pause;
use super::wire::DRAINED_BYTES_MAX;

/// How long the service reads from a client after it has refused the client's request.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// A stream to a client that adds a body to hyper's refusals, and tells when a head begins.
pub(super) struct Refusing<S> {
    stream: TokioIo<S>,
    pause: Arc<Pause>,
    /// Set when hyper refuses a head. hyper then closes the connection.
    refusal: Option<Refusal>,
}

struct Refusal {
    response: Vec<u8>,
    sent: usize,
}

impl<S: AsyncRead + Unpin> Refusing<S> {
    pub(super) fn new(stream: S, pause: &Arc<Pause>) -> Self {
        Self { stream: TokioIo::new(stream), pause: Arc::clone(pause), refusal: None }
    }

    /// After a refusal, reads and drops the client's remaining bytes.
    pub(super) async fn linger(self) {
        if self.refusal.is_some() {
            linger(self.stream.into_inner()).await;
        }
    }
}

/// Reads and drops a client's remaining bytes for a while. Closing a socket with unread bytes resets the
/// connection, and the client would lose the response.
pub(super) async fn linger(stream: impl AsyncRead + Unpin) {
    // The result does not matter: the connection is closed either way.
    let _ = timeout(LINGER_MAX, drain(stream)).await;
}

/// Reads and drops what the client still sends, up to [`DRAINED_BYTES_MAX`].
pub(super) async fn drain(mut stream: impl AsyncRead + Unpin) {
    // On the heap: a buffer inside the future would enlarge every connection's task.
    let mut space = vec![0; 8192];
    let mut read = 0;
    while read < DRAINED_BYTES_MAX {
        match stream.read(&mut space).await {
            Ok(0) | Err(_) => break,
            Ok(more) => read += more,
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Refusing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, space);
        if read.is_ready() {
            self.pause.begin_head();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Write for Refusing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, refusal, .. } = &mut *self;
        // Nearly every response of the router ends with its body and is not examined further.
        if bytes.ends_with(b"\r\n\r\n") && refusal.is_none() {
            *refusal =
                reworded(bytes, make_request_id).map(|response| Refusal { response, sent: 0 });
        }
        let Some(refusal) = refusal else { return Pin::new(stream).poll_write(context, bytes) };
        while let unsent @ [_, ..] = &refusal.response[refusal.sent..] {
            match ready!(Pin::new(&mut *stream).poll_write(context, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => refusal.sent += sent,
            }
        }
        // hyper must believe that its own response was sent.
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The bytes to send instead, if `bytes` end with a refusal by hyper. An earlier response may come
/// before it.
fn reworded(bytes: &[u8], make_id: fn() -> HeaderValue) -> Option<Vec<u8>> {
    const START: &[u8] = b"HTTP/1.";
    let start = bytes.windows(START.len()).rposition(|window| window == START)?;
    let (earlier, head) = bytes.split_at(start);
    let status = head.windows(2).position(|window| window == b"\r\n")? + 2;
    let (status_line, headers) = head.split_at(status);
    let error = match status_line.get(b"HTTP/1.1 ".len()..)? {
        b"400 Bad Request\r\n" => HttpError::MalformedHead,
        b"431 Request Header Fields Too Large\r\n" => HttpError::HeadTooLarge,
        _ => return None,
    };
    // hyper writes a response's own headers first and appends the missing ones. Every error of the
    // router has a body and a content type.
    const CLOSE: &[u8] = b"connection: close\r\n";
    let date = headers.strip_prefix(CLOSE).unwrap_or(headers);
    let date = date.strip_prefix(b"content-length: 0\r\n")?;
    let body = error_body(&error.to_string());
    let length = format!("content-length: {}\r\n", body.len());
    let kind = b"content-type: application/json\r\n";
    // The client's own id is not known: its head was not parsed.
    let id = [b"x-request-id: ", make_id().as_bytes(), b"\r\n"].concat();
    Some(
        [earlier, status_line, kind, CLOSE, length.as_bytes(), &id, date, body.as_bytes()].concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_id() -> HeaderValue {
        HeaderValue::from_static("an-id")
    }

    const DATE: &str = "date: Mon, 23 Nov 2026 06:00:36 GMT\r\n\r\n";

    fn reworded_text(text: &str) -> Option<String> {
        reworded(text.as_bytes(), make_id).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_refusal_gets_a_body_and_keeps_its_version_and_date() {
        for (version, close) in [("1.0", ""), ("1.1", "connection: close\r\n")] {
            let bare = format!("HTTP/{version} 400 Bad Request\r\n{close}content-length: 0\r\n");
            assert_eq!(
                reworded_text(&format!("{bare}{DATE}")).unwrap(),
                format!(
                    "HTTP/{version} 400 Bad Request\r\ncontent-type: application/json\r\n\
                     connection: close\r\ncontent-length: 62\r\nx-request-id: an-id\r\n{DATE}\
                     {{\"error\":\"The request head is not valid HTTP/1.0 or HTTP/1.1\"}}"
                )
            );
        }
    }

    #[test]
    fn a_response_before_a_refusal_is_unchanged() {
        let earlier =
            "HTTP/1.1 404 Not Found\r\ncontent-length: 21\r\n\r\n{\"error\":\"Not found\"}";
        let refusal =
            format!("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n{DATE}");
        let together = reworded_text(&format!("{earlier}{refusal}")).unwrap();
        assert_eq!(together, format!("{earlier}{}", reworded_text(&refusal).unwrap()));
    }

    #[test]
    fn responses_of_the_router_are_unchanged() {
        let kind = "content-type: application/json\r\n";
        for head in [
            "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
            format!("HTTP/1.1 400 Bad Request\r\n{kind}content-length: 30\r\n{DATE}"),
            format!("HTTP/1.1 400 Bad Request\r\n{kind}content-length: 0\r\n{DATE}"),
            format!("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n{DATE}"),
            "\r\n\r\n".to_owned(),
        ] {
            assert_eq!(reworded_text(&head), None, "{head}");
        }
    }
}
