//! The bodies of the answers, member by member.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Fact;
use crate::contract::operation::{Action, Operation};

#[derive(Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: String,
}

#[derive(Serialize, Deserialize)]
struct Side {
    id: i64,
    balance: i64,
    version: i64,
}

#[derive(Serialize, Deserialize)]
struct Transferred {
    from: Side,
    to: Side,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reserved {
    hold: i64,
    amount: i64,
    balance: i64,
    held: i64,
    expires_at: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    captured: i64,
    balance: i64,
    held: i64,
}

#[derive(Serialize, Deserialize)]
struct Released {
    balance: i64,
    held: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Balance {
    balance: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Results<T> {
    pub(super) results: Vec<T>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) error: String,
}

/// The facts in the body of a success. `None` if it is not exactly what the contract says.
pub(super) fn accepted(operation: &Operation, body: &[u8]) -> Option<Vec<Fact>> {
    let facts = match &operation.action {
        Action::Transfer { from, to, .. } => {
            let answer: Transferred = exact(body)?;
            if (answer.from.id, answer.to.id) != (*from, *to) {
                return None;
            }
            let fact = |of: &Side, peer: &Side| Fact {
                version: Some(of.version),
                balance: Some(of.balance),
                held: None,
                peer_version: Some(peer.version),
            };
            vec![fact(&answer.from, &answer.to), fact(&answer.to, &answer.from)]
        }
        Action::Reserve { amount: asked, .. } => {
            let Reserved { hold, amount, balance, held, .. } = exact(body)?;
            if amount != *asked {
                return None;
            }
            let fact = Fact { version: Some(hold), ..Fact::default() };
            vec![Fact { balance: Some(balance), held: Some(held), ..fact }]
        }
        Action::Capture { of, amount, to, .. } => {
            let Captured { captured, balance, held } = exact(body)?;
            if captured != amount.unwrap_or(*of) {
                return None;
            }
            let owner = Fact { balance: Some(balance), held: Some(held), ..Fact::default() };
            let payee = to.map(|_| Fact::default());
            [owner].into_iter().chain(payee).collect()
        }
        Action::Release { .. } => {
            let Released { balance, held } = exact(body)?;
            vec![Fact { balance: Some(balance), held: Some(held), ..Fact::default() }]
        }
        Action::Change { .. } => vec![balance_fact(&exact(body)?)],
        Action::All(items) => {
            let Results { results } = exact::<Results<Balance>>(body)?;
            if results.len() != items.len() {
                return None;
            }
            results.iter().map(balance_fact).collect()
        }
    };
    Some(facts)
}

pub(super) fn balance_fact(answer: &Balance) -> Fact {
    Fact { balance: Some(answer.balance), ..Fact::default() }
}

/// The body, if it is exactly this object: the members in their order, without any space.
pub(super) fn exact<T: DeserializeOwned + Serialize>(body: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(body).ok()?;
    (serde_json::to_vec(&value).ok()? == body).then_some(value)
}
