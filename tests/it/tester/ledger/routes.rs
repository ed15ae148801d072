//! The routes, without HTTP.

use serde_json::{Value, json};

use super::operations::error;
use super::{Answer, EXPIRES_AT, Hold, Ledger, User, number};

impl Ledger {
    pub(in super::super) fn get(&self, path: &str) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<_> = path.split('/').skip(1).collect();
        let user = parts.get(1).and_then(|id| id.parse().ok()).and_then(|id| self.users.get(&id));
        let Some(user) = user else { return error(404, "User not found") };
        let body = match parts[2..] {
            [] => {
                let User { balance, held, entries, .. } = user;
                json!({ "id": parts[1].parse::<i64>().unwrap(), "balance": balance, "held": held,
                    "version": entries.len() })
            }
            ["changes"] => page(&user.entries, query),
            // All on one page.
            ["holds"] => {
                let holds: Vec<_> = user.holds.iter().rev().map(hold).collect();
                json!({ "holds": holds, "next": null })
            }
            _ => return error(404, "Not found"),
        };
        (200, body.to_string())
    }

    pub(in super::super) fn post(&mut self, path: &str, key: Option<&str>, body: &Value) -> Answer {
        let parts: Vec<_> = path.split('/').skip(1).collect();
        match parts[..] {
            ["users"] => self.create(body["balance"].as_i64().unwrap_or(0)),
            ["transfers"] if body["from"].is_null() => error(400, "from is required"),
            ["transfers"] => {
                self.once(number(body, "from"), key, |ledger, key| ledger.transfer(body, key))
            }
            ["changes"] if body["mode"] == "all" => {
                let changes = body["changes"].as_array().unwrap();
                let owner = number(&changes[0], "userId");
                self.once(owner, key, |ledger, key| ledger.all(changes, key))
            }
            ["changes"] => self.each(body["changes"].as_array().unwrap()),
            ["users", user, "holds"] => {
                let user = user.parse().unwrap();
                self.once(user, key, |ledger, key| ledger.reserve(user, body, key))
            }
            ["users", user, "holds", hold, how] => {
                let (user, hold) = (user.parse().unwrap(), hold.parse().unwrap());
                self.once(user, key, |ledger, key| match how {
                    "capture" => ledger.capture(user, hold, body, key),
                    _ => ledger.release(user, hold, key),
                })
            }
            _ => error(404, "Not found"),
        }
    }
}

fn hold((number, hold): (&i64, &Hold)) -> Value {
    let Hold { amount, captured, state, created_at, resolved_at } = hold;
    json!({ "hold": number, "amount": amount, "captured": captured, "state": state,
        "createdAt": created_at, "expiresAt": EXPIRES_AT, "resolvedAt": resolved_at })
}

/// `limit=…&before=…`, newest first.
fn page(entries: &[Value], query: &str) -> Value {
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse::<usize>().ok())
    };
    let before = parameter("before").unwrap_or(usize::MAX).min(entries.len() + 1);
    let from = before.saturating_sub(1 + parameter("limit").unwrap_or(50));
    let page: Vec<_> = entries[from..before.saturating_sub(1)].iter().rev().collect();
    json!({ "changes": page, "next": (from > 0).then_some(from + 1) })
}
