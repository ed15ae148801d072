//! A burst against a ledger in memory.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::Value;

use super::super::answers;
use super::super::check::check;
use super::super::draw::Cast;
use super::super::scenario::Scenario;
use super::super::traffic::{Ask, Traffic};
use super::ledger::{self, Fault, Ledger};
use crate::contract::answer::Said;
use crate::contract::books::{Books, Entry, History, HoldId, HoldState, State};
use crate::contract::operation::Operation;
use crate::contract::request::Sent;
use crate::findings::Findings;
use crate::reply::Reply;
use crate::witness::record::Window;

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
                let Sent { path, body, key, .. } = traffic.sent(number);
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
        let books = read(&ledger, &before);
        Self { traffic, replies, books }
    }

    pub(super) fn findings(&self) -> Findings {
        check(&self.traffic, &self.replies, &self.windows(), &Ok(self.books.clone())).0
    }

    /// One request after the other, as the ledger has served them.
    fn windows(&self) -> Vec<Window> {
        let window = |n: u64| Window { called: 10 * n, returned: 10 * n + 5 };
        (0..).take(self.replies.len()).map(window).collect()
    }

    pub(super) fn slugs(&self) -> Vec<String> {
        self.findings().violations.iter().map(|violation| violation.kind.slug()).collect()
    }

    /// The position of the first operation that is like this, and its answer is a success.
    pub(super) fn accepted(&self, is: impl Fn(&Operation) -> bool) -> usize {
        let record = answers::record(&self.traffic, &self.replies, &self.windows());
        let accepted = |n: usize| {
            let mut attempts = record.attempts.iter().filter(|attempt| attempt.operation == n);
            attempts.all(|attempt| matches!(attempt.said, Said::Accepted(_)))
        };
        let operations = self.traffic.operations.iter().enumerate();
        let mut found = operations.filter(|(n, operation)| accepted(*n) && is(operation));
        found.next().expect("there is one").0
    }

    pub(super) fn request_for(&self, operation: usize) -> usize {
        let asks = &self.traffic.asks;
        asks.iter().position(|ask| operations(ask).contains(&operation)).unwrap()
    }
}

/// In order of the request.
pub(super) fn operations(ask: &Ask) -> &[usize] {
    match ask {
        Ask::One(operation) => std::slice::from_ref(operation),
        Ask::Each(operations) => operations,
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
        let amount = rng.i64(1_000_000..=10_000_000);
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

fn read(ledger: &Ledger, before: &BTreeMap<i64, State>) -> Books {
    let history = |user: &i64, before: &State| {
        let page: Value = get(ledger, &format!("/users/{user}/changes?limit=100000"));
        let entries: Vec<Entry> = serde_json::from_value(page["changes"].clone()).unwrap();
        let entries = entries.into_iter().rev().filter(|entry| entry.version > before.version);
        let after = state(ledger, *user);
        History { before: *before, after, entries: entries.collect() }
    };
    let mut holds = BTreeMap::new();
    for user in before.keys().copied() {
        let page: Value = get(ledger, &format!("/users/{user}/holds?limit=100000"));
        let all: Vec<HoldState> = serde_json::from_value(page["holds"].clone()).unwrap();
        holds.extend(all.into_iter().map(|hold| (HoldId { user, hold: hold.hold }, hold)));
    }
    Books {
        users: before.iter().map(|(user, before)| (*user, history(user, before))).collect(),
        holds,
    }
}
