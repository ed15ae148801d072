//! Every hold is resolved once, by one of those who want it, and everybody else is told how.

use std::collections::BTreeMap;

use super::super::answer::{Answer, Said};
use super::super::books::{Books, HoldState};
use super::super::operation::{Action, HoldId};
use super::{Case, Effects};
use crate::exactness::{Kind, Tally};

pub(super) fn check(cases: &[Case<'_>], effects: &Effects<'_>, books: &Books, tally: &mut Tally) {
    let mut holds: BTreeMap<HoldId, Wanted<'_>> = BTreeMap::new();
    for (n, case) in cases.iter().enumerate() {
        let Some(id) = case.operation.resolves() else { continue };
        let wanted = holds.entry(id).or_default();
        wanted.answers.extend(case.answers);
        if effects.applied(n, case) {
            wanted.winners.push(case);
        }
    }
    for (id, wanted) in &holds {
        wanted.check(*id, books.holds.get(id), tally);
    }
}

/// All that wanted the same hold.
#[derive(Default)]
struct Wanted<'a> {
    winners: Vec<&'a Case<'a>>,
    answers: Vec<&'a Answer>,
}

impl Wanted<'_> {
    fn check(&self, id: HoldId, found: Option<&HoldState>, tally: &mut Tally) {
        let HoldId { user, hold } = id;
        let due = match &self.winners[..] {
            [] => HoldState { state: "open".to_owned(), captured: 0 },
            [winner] => resolved_by(&winner.operation.action),
            [first, others @ ..] => {
                tally.add_many(Kind::ResolvedTwice, others.len(), || {
                    let (one, other) = (first.decided.request, others[0].decided.request);
                    format!("hold {hold} of user {user}: requests {one} and {other}")
                });
                return;
            }
        };
        for answer in &self.answers {
            let Said::Resolved(state) = answer.said else { continue };
            if self.winners.is_empty() {
                tally.add(Kind::NobodyResolved, || {
                    format!("hold {hold} of user {user}: request {}: {state}", answer.request)
                });
                return;
            }
            if *state != *due.state {
                tally.add(Kind::WrongResolution, || {
                    let (request, due) = (answer.request, &due.state);
                    format!("hold {hold} of user {user} is {due}; request {request}: {state}")
                });
            }
        }
        if found.is_some_and(|found| *found != due) {
            tally.add(Kind::WrongHold, || {
                format!("hold {hold} of user {user} is {found:?}, it must be {due:?}")
            });
        }
    }
}

fn resolved_by(action: &Action) -> HoldState {
    match action {
        Action::Capture { of, amount, .. } => {
            HoldState { state: "captured".to_owned(), captured: amount.unwrap_or(*of) }
        }
        _ => HoldState { state: "released".to_owned(), captured: 0 },
    }
}
