//! A client of events on a bare socket, so that tests decide when it reads.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of events.
pub(crate) struct Events {
    socket: TcpStream,
    /// The status line and the headers.
    pub(crate) head: String,
    received: Vec<u8>,
    /// Text of the body, of which this much was given out.
    text: String,
    given: usize,
    end: Option<End>,
}

/// How a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As a body does.
    Complete,
    /// In the middle.
    Cut,
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Event {
    /// From the text between two blank lines; none if it is a comment.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
            let value = lines.next();
            assert_eq!(lines.next(), None, "{name} twice: {text}");
            value.map(str::to_owned)
        };
        let data = field("data: ")?;
        Some(Self { id: field("id: ")?.parse().unwrap(), name: field("event: ")?, data })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl Events {
    /// Sends a request and reads the head of its response.
    pub(crate) async fn request(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let (head, received, text) = (String::new(), Vec::new(), String::new());
        let mut events = Self { socket, head, received, text, given: 0, end: None };
        loop {
            if let Some(end) = find(&events.received, b"\r\n\r\n") {
                let head: Vec<u8> = events.received.drain(..end + 4).collect();
                events.head = String::from_utf8(head).unwrap();
                return events;
            }
            assert!(events.receive().await, "a response");
        }
    }

    /// Watches a user from now on.
    pub(crate) async fn open(address: SocketAddr, user: i64) -> Self {
        Self::open_with(address, user, "").await
    }

    /// Watches a user from behind a version on.
    pub(crate) async fn resume(address: SocketAddr, user: i64, after: i64) -> Self {
        Self::open_with(address, user, &format!("Last-Event-ID: {after}\r\n")).await
    }

    pub(crate) async fn open_with(address: SocketAddr, user: i64, headers: &str) -> Self {
        let events = Self::request(address, &format!("/users/{user}/events"), headers).await;
        assert!(events.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", events.head);
        events
    }

    /// What is between two blank lines: an event or comments; none at the end.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            let text = &self.text[self.given..];
            if let Some(end) = text.find("\n\n") {
                self.given += end + 2;
                return Some(text[..end].to_owned());
            }
            self.text.drain(..std::mem::take(&mut self.given));
            if self.end.is_some() || !self.advance().await {
                return None;
            }
        }
    }

    /// The next event, past all comments; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = Event::parse(&self.block().await?) {
                return Some(event);
            }
        }
    }

    /// The next event, which must be a change.
    pub(crate) async fn change(&mut self) -> Event {
        let event = self.next().await.expect("an event");
        assert_eq!(event.name, "change", "{event:?}");
        event
    }

    /// Reads changes up to this version, which must come in order, each once.
    pub(crate) async fn changes(&mut self, versions: std::ops::RangeInclusive<i64>) -> Vec<Event> {
        let mut changes = Vec::new();
        for version in versions {
            let event = self.change().await;
            assert_eq!(event.id, version);
            changes.push(event);
        }
        changes
    }

    /// As [`Self::changes`], without keeping them. Returns how many there were.
    pub(crate) async fn changes_from(&mut self, first: i64, last: i64) -> i64 {
        for version in first..=last {
            let event = loop {
                let event = self.next().await.expect("an event");
                if event.name != "state" {
                    break event;
                }
            };
            assert_eq!(event.id, version);
        }
        last + 1 - first
    }

    /// Reads and drops everything. Returns how the stream has ended.
    pub(crate) async fn end(&mut self) -> End {
        while self.block().await.is_some() {}
        self.end.expect("it has ended")
    }

    /// Decodes more of the body. False at its end.
    async fn advance(&mut self) -> bool {
        loop {
            if let Some(chunk) = take_chunk(&mut self.received) {
                if chunk.is_empty() {
                    self.end = Some(End::Complete);
                    return false;
                }
                self.text.push_str(str::from_utf8(&chunk).unwrap());
                return true;
            }
            if !self.receive().await {
                self.end = Some(End::Cut);
                return false;
            }
        }
    }

    async fn receive(&mut self) -> bool {
        let mut part = vec![0; 256 * 1024];
        let count = timeout(PATIENCE, self.socket.read(&mut part)).await.expect("bytes in time");
        let count = count.unwrap_or(0);
        self.received.extend_from_slice(&part[..count]);
        count > 0
    }
}

/// Takes a whole chunk from the front. Each has complete characters: a part of the body is one of them.
fn take_chunk(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = find(received, b"\r\n")?;
    let size = usize::from_str_radix(str::from_utf8(&received[..line]).unwrap(), 16).unwrap();
    let end = line + 2 + size;
    if received.len() < end + 2 {
        return None;
    }
    let chunk = received[line + 2..end].to_vec();
    received.drain(..end + 2);
    Some(chunk)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}
