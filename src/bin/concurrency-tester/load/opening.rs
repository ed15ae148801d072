//! Before the load: finds the instances, and creates the users.

use super::LoadPlan;
use super::amounts::OPENING_MIN;
use super::draw::Cast;
use super::recorder::{Recorder, Sending};
use super::shared::Clock;
use crate::client::Client;
use crate::contract::answer::{Fact, Said};
use crate::contract::api::{Api, ApiError};
use crate::contract::operation::{Action, Operation};
use crate::reply::Reply;
use crate::run_error::RunError;
use crate::witness::record::Window;

pub(super) async fn resolve(plan: &LoadPlan) -> Result<Vec<Client>, RunError> {
    let mut instances = Vec::new();
    for target in &plan.targets {
        instances.push(Client::resolve(target, plan.authorization.clone()).await?);
    }
    Ok(instances)
}

/// What a user begins with: an amount of its own as well.
pub(super) fn balance(plan: &LoadPlan, position: usize) -> i64 {
    plan.balance.max(OPENING_MIN) + i64::try_from(position).expect("users are few")
}

/// Creates all users through the first instance, and makes sure that the others have them. Each creation is
/// recorded as a change, for it leaves the entry of one.
pub(super) async fn create_users(
    plan: &LoadPlan,
    instances: &[Client],
    clock: Clock,
) -> Result<(Cast, Recorder), RunError> {
    let mut recorder = Recorder::default();
    let mut users = Vec::new();
    let mut api = Api::new(&instances[0], plan.answer_limit);
    for position in 0..=plan.users {
        let balance = balance(plan, position);
        let body = format!(r#"{{"balance":{balance}}}"#);
        let called = clock.now();
        let reply = api.reply(instances[0].post("/users", body.clone())).await;
        let window = Window { called, returned: clock.now() };
        let created = reply.and_then(|reply| match created(&reply, balance) {
            Some(user) => Ok((user, reply.to_string())),
            None => Err(ApiError::Answer { asked: format!("POST /users {body}"), reply }),
        });
        let (user, text) = created.map_err(|error| error.stops(&instances[0]))?;
        users.push(user);
        let action = Action::Change { user, amount: balance };
        let operation = recorder.operation(Operation { action, key: None, reference: None });
        let sending = Sending { target: 0, request: position + 1, position: 0, window };
        let fact = Fact { version: Some(1), balance: Some(balance), ..Fact::default() };
        recorder.attempt(operation, sending, Said::Accepted(vec![fact]), text);
    }
    for instance in &instances[1..] {
        let mut api = Api::new(instance, plan.answer_limit);
        api.state(users[0]).await.map_err(|error| match error {
            error @ ApiError::Answer { reply: Reply::Answer { status: 404, .. }, .. } => {
                let url = instance.target().to_string();
                let why = format!("it does not share the database of {}: {error}", plan.targets[0]);
                RunError::Unprepared { url, why }
            }
            error => error.stops(instance),
        })?;
    }
    let merchant = users.pop().expect("the merchant is one more than the users");
    Ok((Cast { users, merchant }, recorder))
}

/// The number of the user in the answer to its creation.
fn created(reply: &Reply, balance: i64) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Created {
        id: i64,
        balance: i64,
    }
    let Reply::Answer { status: 201, body } = reply else { return None };
    let created: Created = serde_json::from_slice(body).ok()?;
    (created.balance == balance).then_some(created.id)
}
