//! Reads requests: only as strictly as the tester needs it, which sends none that is malformed.

use hyper::HeaderMap;
use serde_json::Value;

use super::operation::{Action, Item, Operation};

/// Seven days.
const HOLD_SECONDS: i64 = 604_800;

/// The key in the header, where it is a string in double quotes.
pub(super) fn key(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("idempotency-key")?.to_str().ok()?;
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some(quoted.unwrap_or(value).replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// The operation of a `PATCH` or `POST` of this path. `None`: the request is malformed.
pub(super) fn operation(path: &[&str], body: &Value, key: Option<String>) -> Option<Operation> {
    let number = |name: &str| body[name].as_i64();
    let action = match *path {
        ["approach", _, "balance"] => {
            Action::Change { user: number("userId")?, amount: number("amount")? }
        }
        ["users", user, "balance"] => {
            Action::Change { user: user.parse().ok()?, amount: number("amount")? }
        }
        ["transfers"] => {
            Action::Transfer { from: number("from")?, to: number("to")?, amount: number("amount")? }
        }
        ["users", user, "holds"] => Action::Reserve {
            user: user.parse().ok()?,
            amount: number("amount")?,
            seconds: number("expiresInSeconds").unwrap_or(HOLD_SECONDS),
        },
        ["users", user, "holds", hold, "capture"] => Action::Capture {
            user: user.parse().ok()?,
            hold: hold.parse().ok()?,
            amount: number("amount"),
            to: number("to"),
        },
        ["users", user, "holds", hold, "release"] => {
            Action::Release { user: user.parse().ok()?, hold: hold.parse().ok()? }
        }
        ["changes"] => {
            Action::All(body["changes"].as_array()?.iter().map(item).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    // A bulk has its references in its items.
    let reference = text(body, "reference");
    let route = match *path {
        ["approach", name, ..] => name,
        [first, ..] => first,
        [] => return None,
    };
    Some(Operation { action, key, reference, route: route.to_owned() })
}

/// A change as an item of a bulk that decides each for itself, or as a line of a stream.
pub(super) fn change(item: &Value, route: &str) -> Option<Operation> {
    let action =
        Action::Change { user: item["userId"].as_i64()?, amount: item["amount"].as_i64()? };
    let (key, reference) = (text(item, "key"), text(item, "reference"));
    Some(Operation { action, key, reference, route: route.to_owned() })
}

fn item(item: &Value) -> Option<Item> {
    let (user, amount) = (item["userId"].as_i64()?, item["amount"].as_i64()?);
    Some(Item { user, amount, reference: text(item, "reference") })
}

fn text(object: &Value, name: &str) -> Option<String> {
    object[name].as_str().map(str::to_owned)
}
