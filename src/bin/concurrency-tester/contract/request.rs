//! Operations as they are sent.

use hyper::Method;
use serde_json::{Value, json};

use super::operation::{Action, Item, Operation};

/// A request with a body.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: String,
    /// The key in the header.
    pub(crate) key: Option<String>,
}

impl Sent {
    /// The request for one operation. A change goes as a bulk of one.
    pub(crate) fn one(operation: &Operation) -> Self {
        let (path, mut body) = match &operation.action {
            Action::Transfer { from, to, amount } => {
                ("/transfers".to_owned(), json!({ "from": from, "to": to, "amount": amount }))
            }
            Action::Reserve { user, amount, expires_in_seconds } => {
                let mut body = json!({ "amount": amount });
                set(&mut body, "expiresInSeconds", *expires_in_seconds);
                (format!("/users/{user}/holds"), body)
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
            Action::Change { .. } => return Self::each(&[operation]),
            Action::All(items) => {
                let items: Vec<_> = items.iter().map(item).collect();
                ("/changes".to_owned(), json!({ "mode": "all", "changes": items }))
            }
        };
        if let Action::Transfer { .. } | Action::Reserve { .. } = operation.action {
            set(&mut body, "reference", operation.reference.as_deref());
        }
        Self { method: Method::POST, path, body: body.to_string(), key: operation.key.clone() }
    }

    /// A bulk of changes in which each is decided for itself.
    pub(crate) fn each(operations: &[&Operation]) -> Self {
        let changes: Vec<_> = operations.iter().map(|operation| change(operation)).collect();
        let body = json!({ "mode": "each", "changes": changes }).to_string();
        Self { method: Method::POST, path: "/changes".to_owned(), body, key: None }
    }

    /// A change through an approach, or through the default one.
    pub(crate) fn patch(operation: &Operation, approach: Option<&str>) -> Self {
        let (user, amount) = change_of(operation);
        let (path, mut body) = match approach {
            Some(approach) => (
                format!("/approach/{approach}/balance"),
                json!({ "userId": user, "amount": amount }),
            ),
            None => (format!("/users/{user}/balance"), json!({ "amount": amount })),
        };
        set(&mut body, "reference", operation.reference.as_deref());
        let key = operation.key.clone();
        Self { method: Method::PATCH, path, body: body.to_string(), key }
    }
}

/// A change as the line of a stream, without the line's end.
pub(crate) fn line(operation: &Operation) -> String {
    change(operation).to_string()
}

fn change(operation: &Operation) -> Value {
    let (user, amount) = change_of(operation);
    let mut change = json!({ "userId": user, "amount": amount });
    set(&mut change, "key", operation.key.as_deref());
    set(&mut change, "reference", operation.reference.as_deref());
    change
}

fn change_of(operation: &Operation) -> (i64, i64) {
    let Action::Change { user, amount } = operation.action else {
        unreachable!("only a change is decided for itself, or goes through an approach");
    };
    (user, amount)
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
