//! A burst against a ledger in memory.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::Value;

use super::super::super::books::{Entry, History, State};
use super::super::super::draw::Cast;
use super::super::super::operation::{Action, HoldId, Operation};
use super::super::super::scenario::Scenario;
use super::super::super::traffic::{Ask, Sent, Traffic};
use super::super::*;
use super::ledger::{self, Fault, Ledger};

/// A burst and everything that the checks see of it.
#[derive(Debug, Clone)]
pub(super) struct Played {
    pub(super) traffic: Traffic,
    pub(super) replies: Vec<Reply>,
    pub(super) books: Books,
}

impl Played {
    pub(super) fn of(scenario: Scenario, fault: Option<Fault>, requests: usize, seed: u64) -> Self {
        Self::losing(scenario, fault, requests, seed, |_| Loss::None)
    }

    /// `loss` decides which answers are lost, and whether the request still arrives.
    pub(super) fn losing(
        scenario: Scenario,
        fault: Option<Fault>,
        requests: usize,
        seed: u64,
        loss: impl Fn(usize) -> Loss,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut ledger = Ledger::with(fault);
        let cast = cast(scenario, &mut ledger, &mut rng);
        let traffic = scenario.traffic(&cast, requests, &mut rng);
        Self::run(ledger, &cast, traffic, loss)
    }

    /// Transfers between the same two users, of which the second gets the money.
    pub(super) fn alike(keys: &[Option<&str>], loss: impl Fn(usize) -> Loss) -> Self {
        let mut ledger = Ledger::with(None);
        let cast = cast(Scenario::Transfers, &mut ledger, &mut Rng::with_seed(0));
        let action = Action::Transfer { from: cast.users[1], to: cast.users[0], amount: 5 };
        let operation = |key: &Option<&str>| Operation {
            action: action.clone(),
            key: key.map(str::to_owned),
            reference: None,
        };
        let operations = keys.iter().map(operation).collect();
        let asks = (0..keys.len()).map(Ask::One).collect();
        Self::run(ledger, &cast, Traffic { name: "alike", operations, asks }, loss)
    }

    fn run(
        mut ledger: Ledger,
        cast: &Cast,
        traffic: Traffic,
        loss: impl Fn(usize) -> Loss,
    ) -> Self {
        let users: Vec<_> = cast.users.iter().copied().chain([cast.merchant]).collect();
        let before: BTreeMap<_, _> =
            users.iter().map(|user| (*user, state(&ledger, *user))).collect();
        let replies = (0..traffic.asks.len())
            .map(|number| {
                let Sent { path, body, key } = traffic.sent(number);
                let body = serde_json::from_str(&body).unwrap();
                let mut post = || ledger.post(&path, key.as_deref(), &body);
                match loss(number) {
                    Loss::None => answer(post()),
                    Loss::OfTheAnswer => {
                        post();
                        Reply::TimedOut
                    }
                    Loss::OfTheRequest => Reply::ConnectionLost("reset".into()),
                }
            })
            .collect();
        let books = read(&ledger, &before, cast);
        Self { traffic, replies, books }
    }

    pub(super) fn findings(&self) -> Findings {
        check(&self.traffic, &self.replies, &Ok(self.books.clone())).0
    }

    pub(super) fn slugs(&self) -> Vec<String> {
        self.findings().violations.iter().map(|violation| violation.kind.slug()).collect()
    }

    /// The position of the first operation that is like this, and its answer is a success.
    pub(super) fn accepted(&self, is: impl Fn(&Operation) -> bool) -> usize {
        let answers = answer::read_all(&self.traffic, &self.replies);
        let accepted = |n: usize| matches!(answers[n][0].said, Said::Accepted(_));
        let operations = self.traffic.operations.iter().enumerate();
        let mut found = operations.filter(|(n, operation)| accepted(*n) && is(operation));
        found.next().expect("there is one").0
    }

    pub(super) fn request_for(&self, operation: usize) -> usize {
        self.traffic.asks.iter().position(|ask| ask.operations().contains(&operation)).unwrap()
    }
}

#[derive(Clone, Copy)]
pub(super) enum Loss {
    None,
    OfTheAnswer,
    OfTheRequest,
}

fn cast(scenario: Scenario, ledger: &mut Ledger, rng: &mut Rng) -> Cast {
    let mut create = |balance: i64| {
        let (_, body) = ledger.post("/users", None, &serde_json::json!({ "balance": balance }));
        serde_json::from_str::<Value>(&body).unwrap()["id"].as_i64().unwrap()
    };
    let users: Vec<_> = (0..20).map(|_| create(scenario.balance())).collect();
    let merchant = create(0);
    let mut holds = Vec::new();
    let holders = if scenario == Scenario::Captures { users.len() } else { 0 };
    for user in users.iter().take(holders) {
        let amount = rng.i64(2..=10_000);
        let asked = serde_json::json!({ "amount": amount });
        let (_, body) = ledger.post(&format!("/users/{user}/holds"), None, &asked);
        let hold = serde_json::from_str::<Value>(&body).unwrap()["hold"].as_i64().unwrap();
        holds.push((HoldId { user: *user, hold }, amount));
    }
    Cast { users, merchant, holds }
}

pub(super) fn answer((status, body): ledger::Answer) -> Reply {
    Reply::Answer { status, body: body.into_bytes().into() }
}

fn get<T: serde::de::DeserializeOwned>(ledger: &Ledger, path: &str) -> T {
    let (_, body) = ledger.get(path);
    serde_json::from_str(&body).unwrap()
}

fn state(ledger: &Ledger, user: i64) -> State {
    get(ledger, &format!("/users/{user}"))
}

fn read(ledger: &Ledger, before: &BTreeMap<i64, State>, cast: &Cast) -> Books {
    let history = |user: &i64, before: &State| {
        let page: Value = get(ledger, &format!("/users/{user}/changes?limit=100000"));
        let entries: Vec<Entry> = serde_json::from_value(page["changes"].clone()).unwrap();
        let entries = entries.into_iter().rev().filter(|entry| entry.version > before.version);
        let after = state(ledger, *user);
        History { before: *before, after, entries: entries.collect() }
    };
    let hold = |id: HoldId| get(ledger, &format!("/users/{}/holds/{}", id.user, id.hold));
    Books {
        users: before.iter().map(|(user, before)| (*user, history(user, before))).collect(),
        holds: cast.holds.iter().map(|(id, _)| (*id, hold(*id))).collect(),
    }
}
