//! The requests of a burst, and the operations that they ask for.

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::burst::Requests;
use crate::client::Client;
use crate::contract::operation::Operation;
use crate::contract::request::Sent;

/// All requests of a burst. Several may ask for the same operation.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    pub(crate) name: &'static str,
    pub(crate) operations: Vec<Operation>,
    pub(crate) asks: Vec<Ask>,
}

/// What one request asks for, as positions in the list of operations.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    One(usize),
    /// A bulk in which each change is decided for itself.
    Each(Vec<usize>),
}

impl Traffic {
    pub(crate) fn sent(&self, number: usize) -> Sent {
        match &self.asks[number] {
            Ask::One(operation) => Sent::one(&self.operations[*operation]),
            Ask::Each(operations) => {
                let changes: Vec<_> = operations.iter().map(|n| &self.operations[*n]).collect();
                Sent::each(&changes)
            }
        }
    }
}

impl Requests for Traffic {
    fn name(&self) -> &str {
        self.name
    }

    fn count(&self) -> usize {
        self.asks.len()
    }

    fn request(&self, client: &Client, number: usize) -> Request<Full<Bytes>> {
        client.send(self.sent(number))
    }

    fn line(&self, number: usize) -> Option<String> {
        let Sent { method, path, body, key } = self.sent(number);
        let key = key.map(|key| format!(", key {key}")).unwrap_or_default();
        Some(format!("{method} {path} {body}{key}"))
    }
}
