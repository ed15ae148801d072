//! How many changes may be parked, and how many of one user.

use std::time::Duration;

use super::*;
use crate::ledger::Amount;

const USER: UserId = UserId::FIRST;

fn change(user: UserId) -> Change {
    Change { user, amount: Amount::new(-1).unwrap(), key: None, reference: None }
}

/// Sends the next request, of which the row of the user turns out to be held.
fn find_held(core: &mut Core<usize>, user: UserId) {
    assert!(matches!(core.next(Duration::ZERO), Step::Send { .. }));
    core.on(Duration::ZERO, Err(Failure::Locked("held".into())));
    assert!(matches!(core.next(Duration::ZERO), Step::Send { .. }));
    let row = Probed { id: user.get(), version: 1, is_free: false };
    core.on(Duration::ZERO, Ok(Response::Probe(vec![row])));
}

fn refused(core: &mut Core<usize>) -> usize {
    let _ = core.next(Duration::ZERO);
    core.take_answers().filter(|(_, answer)| matches!(answer, Err(ChangeError::Busy(_)))).count()
}

#[test]
fn one_user_has_three_quarters_of_the_parked_places_and_others_the_rest() {
    let mut core = Core::new(16);
    core.arrive(change(USER), 0);
    find_held(&mut core, USER);
    (1..=20).for_each(|caller| core.arrive(change(USER), caller));
    assert_eq!(refused(&mut core), 21 - 12);
    let other = UserId::new(2).unwrap();
    core.arrive(change(other), 0);
    find_held(&mut core, other);
    (1..=20).for_each(|caller| core.arrive(change(other), caller));
    assert_eq!(refused(&mut core), 21 - 4);
}
