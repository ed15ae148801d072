//! A client of streams on a bare socket, so that tests decide when it sends and when it reads.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// The head of a stream, without its end.
pub(crate) const HEAD: &str = "POST /changes HTTP/1.1\r\nhost: x\r\n\
    content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n";

/// Both halves of a stream.
pub(crate) struct StreamClient {
    pub(crate) sender: Sender,
    pub(crate) results: Results,
}

/// Sends lines.
pub(crate) struct Sender(pub(crate) OwnedWriteHalf);

/// Reads results.
pub(crate) struct Results {
    socket: OwnedReadHalf,
    received: Vec<u8>,
    /// What is left of the chunk that has begun; none before the response's head.
    left: Option<usize>,
    /// Text of chunks, of which this much was given out.
    text: Vec<u8>,
    given: usize,
    is_ended: bool,
}

impl StreamClient {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &format!("{HEAD}\r\n")).await
    }

    pub(crate) async fn open_with(address: SocketAddr, head: &str) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (socket, mut writing) = socket.into_split();
        writing.write_all(head.as_bytes()).await.unwrap();
        let (received, text) = (Vec::new(), Vec::new());
        let results = Results { socket, received, left: None, text, given: 0, is_ended: false };
        Self { sender: Sender(writing), results }
    }

    /// Sends all lines while it reads all results.
    pub(crate) async fn exchange(self, lines: String) -> Vec<Value> {
        let Self { mut sender, mut results } = self;
        let sending = async move {
            for part in lines.as_bytes().chunks(50_000) {
                sender.send_bytes(part).await;
            }
            sender.finish().await;
        };
        let (results, ()) = tokio::join!(results.rest(), sending);
        results
    }
}

impl Sender {
    pub(crate) async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        assert!(self.try_send(bytes).await, "the service takes it");
    }

    /// Returns false if the connection is gone.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.0.write_all(&chunk).await.is_ok()
    }

    /// Ends the body.
    pub(crate) async fn finish(mut self) {
        self.0.write_all(b"0\r\n\r\n").await.unwrap();
        // Without this, dropping it would end the sending direction of the socket.
        self.0.forget();
    }
}

impl Results {
    /// The next result; none at the end of the response. Panics if the connection is cut before it.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let text = &self.text[self.given..];
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                self.given += end + 1;
                return Some(serde_json::from_slice(&text[..end]).unwrap());
            }
            if self.is_ended {
                assert!(text.is_empty(), "half a line");
                return None;
            }
            self.text.drain(..std::mem::take(&mut self.given));
            assert!(self.advance().await, "the response is cut");
        }
    }

    /// All further results.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(result) = self.next().await {
            all.push(result);
        }
        all
    }

    /// All further results, and whether the response has ended as it should.
    pub(crate) async fn rest_or_cut(&mut self) -> (Vec<Value>, bool) {
        while !self.is_ended {
            if !self.advance().await {
                break;
            }
        }
        let lines = self.text[self.given..].split_inclusive(|byte| *byte == b'\n');
        let whole = lines.filter(|line| line.ends_with(b"\n"));
        (whole.map(|line| serde_json::from_slice(line).unwrap()).collect(), self.is_ended)
    }

    /// The first line of a head that comes before the response.
    pub(crate) async fn first_line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|part| part == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap().lines().next().unwrap().to_owned();
            }
            assert!(self.receive().await);
        }
    }

    /// Decodes more of the response. False if the connection has ended.
    async fn advance(&mut self) -> bool {
        loop {
            let found = match self.left {
                None => self.take_head(),
                Some(0) => self.take_size(),
                Some(_) => self.take_text(),
            };
            if found {
                return true;
            }
            if !self.receive().await {
                return false;
            }
        }
    }

    pub(crate) async fn receive(&mut self) -> bool {
        let mut part = vec![0; 64 * 1024];
        let count = timeout(PATIENCE, self.socket.read(&mut part)).await.expect("bytes in time");
        let count = count.unwrap_or(0);
        self.received.extend_from_slice(&part[..count]);
        count > 0
    }

    fn take_head(&mut self) -> bool {
        let Some(end) = self.received.windows(4).position(|part| part == b"\r\n\r\n") else {
            return false;
        };
        let head: Vec<u8> = self.received.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-ndjson\r\n"), "{head}");
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        self.left = Some(0);
        true
    }

    fn take_size(&mut self) -> bool {
        let Some(end) = self.received.windows(2).position(|part| part == b"\r\n") else {
            return false;
        };
        let size = str::from_utf8(&self.received[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        self.received.drain(..end + 2);
        self.is_ended = size == 0;
        // The chunk, and the end of its line.
        self.left = Some(size + 2);
        true
    }

    fn take_text(&mut self) -> bool {
        let left = self.left.unwrap();
        let count = left.min(self.received.len());
        let text: Vec<u8> = self.received.drain(..count).collect();
        self.left = Some(left - count);
        // The last two bytes of a chunk are the end of its line.
        let of_chunk = left.saturating_sub(2).min(count);
        self.text.extend_from_slice(&text[..of_chunk]);
        count > 0
    }
}
