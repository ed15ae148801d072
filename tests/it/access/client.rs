//! A client that sends one request after the other on one connection, plain or over TLS.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::service::Answer;

/// The head of a request, without the headers of its body and without its end.
pub(super) fn head(method: &str, path: &str, token: &str) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n");
    if token.is_empty() { head } else { format!("{head}authorization: Bearer {token}\r\n") }
}

/// Sends a request with this token, or without one, and reads the answer.
pub(super) async fn ask<S>(stream: &mut S, method: &str, path: &str, token: &str) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!("{}\r\n", head(method, path, token));
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    answer(stream).await
}

/// Withdraws 2 from user 1 with this token, or without one.
pub(super) async fn withdraw<S>(stream: &mut S, token: &str) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = head("PATCH", "/users/1/balance", token);
    let request = format!(
        "{head}content-type: application/json\r\ncontent-length: 13\r\n\r\n{{\"amount\":-2}}"
    );
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    answer(stream).await
}

/// Reads one answer that has a length.
pub(super) async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Answer {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).expect(&head).parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.expect(&head).parse().unwrap()];
        stream.read_exact(&mut body).await.expect("the whole body");
        (status, String::from_utf8(body).unwrap())
    };
    timeout(Duration::from_secs(30), reading).await.expect("an answer in time")
}
