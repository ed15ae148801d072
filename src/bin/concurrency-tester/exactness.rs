//! Checks the answers of one burst, as a pure function.
//!
//! All requests ask for the same change, so the order in which they were served does not matter.
//! In any order, the answer to the k-th accepted request must be `start + k × amount`, and
//! refusals begin where the next change would go below zero. So the accepted balances are known in
//! advance: each must appear exactly once, and no other balance may appear.

#[cfg(test)]
mod tests;

use crate::findings::{Findings, Kind, Tally};
use crate::reply::{REFUSAL, Reply};

/// The change that a burst makes: each request adds `amount` to a balance that begins at `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The balance before the burst in minor units; not negative.
    pub(crate) start: i64,
    /// The change of each request in minor units; not zero.
    pub(crate) amount: i64,
}

impl Terms {
    /// How many of `requests` must be accepted: all deposits, or as many withdrawals as the balance
    /// can pay.
    pub(crate) fn acceptable(&self, requests: usize) -> usize {
        if self.amount > 0 {
            return requests;
        }
        let affordable = self.start.unsigned_abs() / self.amount.unsigned_abs();
        usize::try_from(affordable).map_or(requests, |affordable| affordable.min(requests))
    }

    /// The balance after `accepted` changes. The type is wider than a balance because callers also
    /// compute sums that do not fit into 64 bits.
    pub(crate) fn balance_after(&self, accepted: usize) -> i128 {
        // A usize has at most 64 bits, so neither the cast nor the product can overflow.
        i128::from(self.start) + i128::from(self.amount) * i128::from(accepted as u64)
    }

    /// The k for which `balance` is `start + k × amount`, if there is one from 1 to `acceptable`.
    fn place_of(&self, balance: i64, acceptable: usize) -> Option<usize> {
        let distance = i128::from(balance) - i128::from(self.start);
        let amount = i128::from(self.amount);
        if distance % amount != 0 {
            return None;
        }
        let place = usize::try_from(distance / amount).ok()?;
        (1..=acceptable).contains(&place).then_some(place)
    }
}

/// Checks the replies of one burst, in order of their requests' numbers, and the balance that was
/// read after it (or the reason why reading it failed).
pub(crate) fn check(
    terms: Terms,
    replies: &[Reply],
    final_balance: &Result<i64, String>,
) -> Findings {
    let acceptable = terms.acceptable(replies.len());
    let mut checker = Checker::new(terms, acceptable);
    for (index, reply) in replies.iter().enumerate() {
        checker.add(index + 1, reply);
    }
    let excess = checker.compare_counts(replies.len());
    checker.list_missing_balances();
    checker.compare_final_balance(final_balance);
    let refused = checker.refusals - excess;
    Findings {
        accepted: checker.accepted,
        refused,
        wrong: replies.len() - checker.accepted - refused,
        violations: checker.tally.into_violations(),
    }
}

struct Checker {
    terms: Terms,
    acceptable: usize,
    /// `seen[k]` is the number of the request whose answer has the k-th balance, 0 for none yet.
    seen: Vec<usize>,
    accepted: usize,
    /// Answers 200 with any balance, expected or not.
    balances: usize,
    refusals: usize,
    tally: Tally,
}

impl Checker {
    fn new(terms: Terms, acceptable: usize) -> Self {
        Self {
            terms,
            acceptable,
            seen: vec![0; acceptable + 1],
            accepted: 0,
            balances: 0,
            refusals: 0,
            tally: Tally::default(),
        }
    }

    fn add(&mut self, number: usize, reply: &Reply) {
        let fault = match reply {
            Reply::TimedOut => Kind::TimedOut,
            Reply::ConnectionLost(_) => Kind::ConnectionLost,
            Reply::Answer { status: 400, body } if **body == *REFUSAL => {
                self.refusals += 1;
                return;
            }
            Reply::Answer { status: status @ (200 | 400), .. } => match reply.balance() {
                Some(balance) => return self.add_balance(number, balance),
                None => Kind::UnexpectedBody(*status),
            },
            Reply::Answer { status, .. } => Kind::UnexpectedStatus(*status),
        };
        self.tally.add(fault, || format!("request {number}: {reply}"));
    }

    fn add_balance(&mut self, number: usize, balance: i64) {
        self.balances += 1;
        match self.terms.place_of(balance, self.acceptable) {
            Some(place) if self.seen[place] == 0 => {
                self.seen[place] = number;
                self.accepted += 1;
            }
            Some(place) => {
                let first = self.seen[place];
                self.tally.add(Kind::RepeatedBalance, || {
                    format!("balance {balance}: requests {first} and {number}")
                });
            }
            None => {
                let kind =
                    if balance < 0 { Kind::NegativeBalance } else { Kind::ImpossibleBalance };
                self.tally.add(kind, || format!("request {number}: balance {balance}"));
            }
        }
    }

    /// Returns how many refusals there are beyond the expected ones.
    fn compare_counts(&mut self, requests: usize) -> usize {
        let due = self.acceptable;
        if self.balances > due {
            let found = self.balances;
            self.tally.add_many(Kind::TooManyAccepted, found - due, || {
                format!("{found} accepted, {due} are possible")
            });
        }
        let found = self.refusals;
        let excess = found.saturating_sub(requests - due);
        if excess > 0 {
            self.tally.add_many(Kind::RefusedWhileAffordable, excess, || {
                format!("{found} refused, {} could not be paid", requests - due)
            });
        }
        excess
    }

    fn list_missing_balances(&mut self) {
        for place in 1..=self.acceptable {
            if self.seen[place] == 0 {
                let balance = self.terms.balance_after(place);
                self.tally.add(Kind::MissingBalance, || format!("balance {balance}"));
            }
        }
    }

    fn compare_final_balance(&mut self, found: &Result<i64, String>) {
        let due = self.terms.balance_after(self.acceptable);
        match found {
            Ok(found) if i128::from(*found) == due => {}
            Ok(found) => {
                self.tally.add(Kind::FinalBalance, || format!("it is {found}, it must be {due}"));
            }
            Err(why) => self.tally.add(Kind::FinalBalance, || format!("not readable: {why}")),
        }
    }
}
