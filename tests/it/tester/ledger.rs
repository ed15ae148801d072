//! Users, transfers, holds and bulks in memory: a service that is correct, or broken in one known way.
//!
//! The tests of the real executable serve it over HTTP; the tests of its checks call it directly.

// With their paths, because this file is a module of two crates.
#[path = "ledger/operations.rs"]
mod operations;
#[path = "ledger/routes.rs"]
mod routes;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// One known way in which a service can be wrong. Each happens from the seventh chance on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Applies an accepted operation again.
    ApplyTwice,
    /// Takes the payer's money, and never gives it to the payee.
    LosePayee,
    /// Changes the balances without an entry.
    LoseEntries,
    /// Answers another balance than the one that it stores.
    AnswerOtherBalance,
    /// Lets a balance go below zero.
    Overdraw,
    /// Refuses what can be paid.
    RefuseAffordable,
    /// Applies what it refuses.
    ApplyRefused,
    /// Has never seen a key before.
    ForgetKeys,
    /// Lets a hold be resolved again.
    ResolveTwice,
    /// Names another state in a conflict.
    NameOtherState,
    /// Answers the results of a bulk in another order.
    SwapResults,
    /// Applies the changes of a bulk in another order.
    ReverseBulk,
    /// Keeps what a failed bulk has done so far.
    KeepPart,
}

/// The seventh chance is in the middle of things.
const CHANCE: u32 = 7;

#[derive(Clone, Debug, Default)]
struct User {
    balance: i64,
    held: i64,
    entries: Vec<Value>,
    holds: BTreeMap<i64, Hold>,
}

#[derive(Clone, Debug)]
struct Hold {
    amount: i64,
    captured: i64,
    state: &'static str,
    created_at: String,
    resolved_at: Option<String>,
}

/// After every entry.
const EXPIRES_AT: &str = "2027-01-01T00:00:00.000000Z";

/// What is written to a user, before it has a version and balances.
struct Write {
    user: i64,
    kind: &'static str,
    amount: i64,
    held_amount: i64,
    rest: Value,
}

/// Status and body of an answer.
pub(super) type Answer = (u16, String);

/// The whole state of the service.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    users: BTreeMap<i64, User>,
    keys: HashMap<(i64, String), Answer>,
    fault: Option<Fault>,
    chances: u32,
    stamp: u64,
    /// All entries that are written now have the same time.
    at_once: bool,
}

fn number(body: &Value, name: &str) -> i64 {
    body[name].as_i64().unwrap()
}

impl Ledger {
    pub(super) fn with(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    /// True where the fault is this one, and it is its time.
    fn fails(&mut self, fault: Fault) -> bool {
        if self.fault != Some(fault) {
            return false;
        }
        self.chances += 1;
        self.chances >= CHANCE
    }

    /// As [`Self::fails`], but only once.
    fn fails_once(&mut self, fault: Fault) -> bool {
        self.fails(fault) && self.chances == CHANCE
    }

    /// Successes and refusals are kept with their key.
    fn once(
        &mut self,
        owner: i64,
        key: Option<&str>,
        decide: impl FnOnce(&mut Self, Option<&str>) -> Answer,
    ) -> Answer {
        let Some(key) = key.map(|key| key.trim_matches('"')) else { return decide(self, None) };
        let known = self.keys.get(&(owner, key.to_owned())).cloned();
        if let Some(answer) = known
            && !self.fails(Fault::ForgetKeys)
        {
            return answer;
        }
        let answer = decide(self, Some(key));
        if matches!(answer.0, 200 | 201 | 400) {
            self.keys.insert((owner, key.to_owned()), answer.clone());
        }
        answer
    }

    /// Whether the user can pay, or the fault has it otherwise.
    fn affords(&mut self, user: i64, amount: i64) -> bool {
        match self.users[&user].balance >= amount {
            true => !self.fails_once(Fault::RefuseAffordable),
            false => self.fails_once(Fault::Overdraw),
        }
    }

    /// Writes two sides that name each other.
    fn write_pair(&mut self, mut sides: Vec<Write>) {
        let version = |ledger: &Self, user| ledger.users[&user].entries.len() + 1;
        let (one, other) = (sides[0].user, sides[1].user);
        sides[0].rest["peer"] = json!({ "user": other, "version": version(self, other) });
        sides[1].rest["peer"] = json!({ "user": one, "version": version(self, one) });
        if self.fails_once(Fault::LosePayee) {
            sides.pop();
        }
        self.write(sides);
    }

    /// The time of the newest entries.
    fn now(&self) -> String {
        format!("2026-11-24T20:24:55.{:06}Z", self.stamp)
    }

    fn write(&mut self, writes: Vec<Write>) {
        self.stamp += u64::from(!self.at_once);
        let created_at = self.now();
        for Write { user, kind, amount, held_amount, rest } in writes {
            let moves = matches!(kind, "transfer" | "capture");
            let loses = moves && self.fails_once(Fault::LoseEntries);
            let user = self.users.get_mut(&user).unwrap();
            user.balance += amount;
            user.held += held_amount;
            let mut entry = json!({ "version": user.entries.len() + 1, "kind": kind,
                "amount": amount, "heldAmount": held_amount, "balance": user.balance,
                "held": user.held, "createdAt": created_at });
            for (name, value) in rest.as_object().unwrap() {
                if !value.is_null() {
                    entry[name] = value.clone();
                }
            }
            if !loses {
                user.entries.push(entry);
            }
        }
    }
}
