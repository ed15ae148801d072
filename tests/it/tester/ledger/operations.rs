//! What each operation does, and where each fault strikes.

use serde_json::{Value, json};

use super::{Answer, EXPIRES_AT, Fault, Hold, Ledger, User, Write, number};

pub(super) fn error(status: u16, sentence: &str) -> Answer {
    (status, json!({ "error": sentence }).to_string())
}

fn insufficient() -> Answer {
    error(400, "Insufficient funds")
}

impl Ledger {
    pub(super) fn create(&mut self, balance: i64) -> Answer {
        let id = i64::try_from(self.users.len()).unwrap() + 2;
        self.users.insert(id, User::default());
        if balance > 0 {
            self.write(vec![Write {
                user: id,
                kind: "change",
                amount: balance,
                held_amount: 0,
                rest: json!({}),
            }]);
        }
        (201, json!({ "id": id, "balance": balance }).to_string())
    }

    pub(super) fn transfer(&mut self, body: &Value, key: Option<&str>) -> Answer {
        let (from, to) = (number(body, "from"), number(body, "to"));
        let amount = number(body, "amount");
        let reference = &body["reference"];
        let side = |user, amount, key: Option<&str>| Write {
            user,
            kind: "transfer",
            amount,
            held_amount: 0,
            rest: json!({ "reference": reference, "key": key }),
        };
        let sides = || vec![side(from, -amount, key), side(to, amount, None)];
        if !self.affords(from, amount) {
            if self.fails_once(Fault::ApplyRefused) {
                self.write_pair(sides());
            }
            return insufficient();
        }
        self.write_pair(sides());
        let mut answer = json!({ "from": self.side(from), "to": self.side(to) });
        if self.fails_once(Fault::ApplyTwice) {
            self.write_pair(sides());
        }
        if self.fails_once(Fault::AnswerOtherBalance) {
            answer["to"]["balance"] = json!(number(&answer["to"], "balance") + 1);
        }
        (201, answer.to_string())
    }

    fn side(&self, id: i64) -> Value {
        let User { balance, entries, .. } = &self.users[&id];
        json!({ "id": id, "balance": balance, "version": entries.len() })
    }

    pub(super) fn reserve(&mut self, user: i64, body: &Value, key: Option<&str>) -> Answer {
        let amount = number(body, "amount");
        if !self.affords(user, amount) {
            return insufficient();
        }
        let hold = i64::try_from(self.users[&user].entries.len()).unwrap() + 1;
        let rest = json!({ "reference": body["reference"], "key": key, "hold": hold });
        let write = Write { user, kind: "hold", amount: -amount, held_amount: amount, rest };
        self.write(vec![write]);
        let (created_at, resolved_at) = (self.now(), None);
        let made = Hold { amount, captured: 0, state: "open", created_at, resolved_at };
        let owner = self.users.get_mut(&user).unwrap();
        owner.holds.insert(hold, made);
        let (balance, held) = (owner.balance, owner.held);
        let answer = json!({ "hold": hold, "amount": amount, "balance": balance, "held": held,
            "expiresAt": EXPIRES_AT });
        (201, answer.to_string())
    }

    /// Takes the hold, or says why not.
    fn resolve(&mut self, user: i64, hold: i64, how: &'static str) -> Result<i64, Answer> {
        let state = self.users[&user].holds[&hold].state;
        if state != "open" && !self.fails_once(Fault::ResolveTwice) {
            let other = if state == "captured" { "released" } else { "captured" };
            let named = if self.fails_once(Fault::NameOtherState) { other } else { state };
            return Err(error(409, &format!("The hold is {named}")));
        }
        let hold = self.users.get_mut(&user).unwrap().holds.get_mut(&hold).unwrap();
        hold.state = how;
        Ok(hold.amount)
    }

    pub(super) fn capture(
        &mut self,
        user: i64,
        hold: i64,
        body: &Value,
        key: Option<&str>,
    ) -> Answer {
        let of = match self.resolve(user, hold, "captured") {
            Ok(of) => of,
            Err(answer) => return answer,
        };
        let captured = body["amount"].as_i64().unwrap_or(of);
        let rest = json!({ "key": key, "hold": hold });
        let owner = Write { user, kind: "capture", amount: of - captured, held_amount: -of, rest };
        match body["to"].as_i64() {
            None => self.write(vec![owner]),
            Some(to) => {
                let rest = json!({});
                let payee =
                    Write { user: to, kind: "capture", amount: captured, held_amount: 0, rest };
                self.write_pair(vec![owner, payee]);
            }
        }
        let now = self.now();
        let owner = self.users.get_mut(&user).unwrap();
        let hold = owner.holds.get_mut(&hold).unwrap();
        (hold.captured, hold.resolved_at) = (captured, Some(now));
        let (balance, held) = (owner.balance, owner.held);
        (200, json!({ "captured": captured, "balance": balance, "held": held }).to_string())
    }

    pub(super) fn release(&mut self, user: i64, hold: i64, key: Option<&str>) -> Answer {
        let of = match self.resolve(user, hold, "released") {
            Ok(of) => of,
            Err(answer) => return answer,
        };
        let rest = json!({ "key": key, "hold": hold });
        self.write(vec![Write { user, kind: "release", amount: of, held_amount: -of, rest }]);
        let now = self.now();
        let owner = self.users.get_mut(&user).unwrap();
        owner.holds.get_mut(&hold).unwrap().resolved_at = Some(now);
        let User { balance, held, .. } = *owner;
        (200, json!({ "balance": balance, "held": held }).to_string())
    }

    pub(super) fn each(&mut self, changes: &[Value]) -> Answer {
        let reversed = self.fails(Fault::ReverseBulk);
        let mut results = vec![Value::Null; changes.len()];
        let order: Vec<_> = (0..changes.len()).collect();
        let order = if reversed { order.into_iter().rev().collect() } else { order };
        for position in order {
            let change = &changes[position];
            let key = change["key"].as_str();
            let decide = |ledger: &mut Self, key: Option<&str>| ledger.change(change, key);
            let (status, body) = self.once(number(change, "userId"), key, decide);
            let body: Value = serde_json::from_str(&body).unwrap();
            results[position] = match status {
                200 => body,
                _ => json!({ "status": status, "error": body["error"] }),
            };
        }
        if self.fails_once(Fault::SwapResults) {
            results.rotate_left(1);
        }
        (200, json!({ "results": results }).to_string())
    }

    fn change(&mut self, change: &Value, key: Option<&str>) -> Answer {
        let (user, amount) = (number(change, "userId"), number(change, "amount"));
        if !self.affords(user, -amount) {
            return insufficient();
        }
        let rest = json!({ "reference": change["reference"], "key": key });
        self.write(vec![Write { user, kind: "change", amount, held_amount: 0, rest }]);
        (200, json!({ "balance": self.users[&user].balance }).to_string())
    }

    pub(super) fn all(&mut self, changes: &[Value], key: Option<&str>) -> Answer {
        self.stamp += 1;
        self.at_once = true;
        let answer = self.all_at_once(changes, key);
        self.at_once = false;
        answer
    }

    fn all_at_once(&mut self, changes: &[Value], key: Option<&str>) -> Answer {
        let before = self.users.clone();
        let mut results = Vec::new();
        let mut key = key;
        for (position, change) in changes.iter().enumerate() {
            let (status, body) = self.change(change, key.take());
            if status != 200 {
                if !self.fails_once(Fault::KeepPart) {
                    self.users = before;
                }
                return error(400, &format!("changes[{position}]: Insufficient funds"));
            }
            results.push(serde_json::from_str::<Value>(&body).unwrap());
        }
        (200, json!({ "results": results }).to_string())
    }
}
