//! How many operations may be parked, and how many of one user.

use std::time::Duration;

use super::*;
use crate::ledger::{Payment, Transfer};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn transfer(from: i64, to: i64) -> Operation {
    let (from, to, amount) = (user(from), user(to), Payment::new(1).unwrap());
    Operation::Transfer(Transfer { from, to, amount, key: None, reference: None })
}

/// How many of these are refused while the row of user 1 is held.
fn refused(core: &mut Core<usize>, transfers: impl Iterator<Item = Operation>) -> usize {
    transfers.for_each(|one| core.arrive(one, 0));
    while let Step::Send { .. } = core.next(Duration::ZERO) {
        let is_probe = matches!(core.request(), Some(Request::Probe(_)));
        let row = Probed { id: 1, version: 1, is_free: false };
        let held = Err(Failure::Locked("held".into()));
        core.on(Duration::ZERO, if is_probe { Ok(Response::Probe(vec![row])) } else { held });
    }
    core.take_answers().filter(|(_, answer)| matches!(answer, Err(ChangeError::Busy(_)))).count()
}

#[test]
fn an_owner_has_three_quarters_of_the_parked_places_and_a_payee_seven_eighths() {
    let mut core = Core::new(16);
    assert_eq!(refused(&mut core, (0..20).map(|_| transfer(1, 2))), 20 - 12);
    assert_eq!(
        refused(&mut core, (0..20).map(|_| transfer(2, 1))),
        20 - 4,
        "the rest is for others"
    );

    let mut core = Core::new(16);
    assert_eq!(refused(&mut core, (11..31).map(|payer| transfer(payer, 1))), 20 - 14);
    assert_eq!(refused(&mut core, (0..20).map(|_| transfer(1, 2))), 20 - 2, "the payee pays");
}
