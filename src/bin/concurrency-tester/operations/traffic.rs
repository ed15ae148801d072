//! The requests of a burst, and the operations that they ask for.

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::operation::{Action, Item, Operation};
use crate::burst::Requests;
use crate::client::Client;

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

impl Ask {
    /// The operations, in order of the request.
    pub(crate) fn operations(&self) -> &[usize] {
        match self {
            Self::One(operation) => std::slice::from_ref(operation),
            Self::Each(operations) => operations,
        }
    }
}

/// A request as it is sent.
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) body: String,
    /// The key in the header.
    pub(crate) key: Option<String>,
}

impl Traffic {
    pub(crate) fn sent(&self, number: usize) -> Sent {
        match &self.asks[number] {
            Ask::One(operation) => one(&self.operations[*operation]),
            Ask::Each(operations) => {
                let changes = operations.iter().map(|n| change(&self.operations[*n]));
                let body = json!({ "mode": "each", "changes": changes.collect::<Vec<_>>() });
                Sent { path: "/changes".to_owned(), body: body.to_string(), key: None }
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
        let Sent { path, body, key } = self.sent(number);
        client.post(&path, body, key.as_deref())
    }

    fn line(&self, number: usize) -> Option<String> {
        let Sent { path, body, key } = self.sent(number);
        let key = key.map(|key| format!(", key {key}")).unwrap_or_default();
        Some(format!("POST {path} {body}{key}"))
    }
}

fn one(operation: &Operation) -> Sent {
    let (path, mut body) = match &operation.action {
        Action::Transfer { from, to, amount } => {
            ("/transfers".to_owned(), json!({ "from": from, "to": to, "amount": amount }))
        }
        Action::Reserve { user, amount } => {
            (format!("/users/{user}/holds"), json!({ "amount": amount }))
        }
        Action::Capture { id, amount, to, .. } => {
            let mut body = json!({});
            set(&mut body, "amount", *amount);
            set(&mut body, "to", *to);
            (format!("/users/{}/holds/{}/capture", id.user, id.hold), body)
        }
        Action::Release { id, .. } => {
            (format!("/users/{}/holds/{}/release", id.user, id.hold), json!({}))
        }
        Action::Change { .. } => ("/changes".to_owned(), json!({ "changes": [change(operation)] })),
        Action::All(items) => {
            let items: Vec<_> = items.iter().map(item).collect();
            ("/changes".to_owned(), json!({ "mode": "all", "changes": items }))
        }
    };
    if let Action::Transfer { .. } | Action::Reserve { .. } = operation.action {
        set(&mut body, "reference", operation.reference.as_deref());
    }
    Sent { path, body: body.to_string(), key: operation.key.clone() }
}

fn change(operation: &Operation) -> Value {
    let Action::Change { user, amount } = operation.action else {
        unreachable!("only changes are decided each for itself");
    };
    let mut change = json!({ "userId": user, "amount": amount });
    set(&mut change, "key", operation.key.as_deref());
    set(&mut change, "reference", operation.reference.as_deref());
    change
}

fn item(Item { user, amount, reference }: &Item) -> Value {
    let mut item = json!({ "userId": user, "amount": amount });
    set(&mut item, "reference", reference.as_deref());
    item
}

/// Adds a member where there is a value.
fn set(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[name] = value.into();
    }
}
