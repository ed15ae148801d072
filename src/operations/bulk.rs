//! An atomic bulk: changes in order, all or none.

use super::books::{Draft, NewEntry, Stop};
use crate::ledger::{
    AllOrNone, Change, ChangeError, Decision, Key, OperationDecision, Part, Reference, UserId,
};
use crate::store::posting::EntryKind;

/// Applies all changes in order. A change of zero only reads.
///
/// # Errors
/// The first change that fails is named with its position.
pub(super) fn decide<'a>(
    draft: &mut Draft<'_, 'a>,
    all: &'a AllOrNone,
) -> Result<OperationDecision, Stop> {
    let mut keys = OwnersKey { owner: all.changes.first().map(|first| first.user), key: &all.key };
    let mut balances = Vec::with_capacity(all.changes.len());
    for (position, change) in all.changes.iter().enumerate() {
        let part = Part::Change(position);
        let row = draft.user(change.user).map_err(|error| part.error(error))?;
        match row.funds.decide(change.amount).map_err(|error| part.error(error))? {
            Decision::Accepted(balance) => balances.push(balance),
            Decision::Refused => {
                return Err(Stop::Refused { user: change.user, at: Some(position) });
            }
        }
        if !change.amount.is_zero() {
            post(draft, change, keys.take(change.user))?;
        }
    }
    Ok(OperationDecision::AllApplied(balances))
}

fn post<'a>(
    draft: &mut Draft<'_, 'a>,
    change: &'a Change,
    key: Option<&'a Key>,
) -> Result<(), ChangeError> {
    let entry = NewEntry {
        amount: change.amount.get(),
        key,
        reference: change.reference.as_ref().map(Reference::as_str),
        ..NewEntry::of(EntryKind::Change)
    };
    draft.post(change.user, entry).map(drop)
}

/// The key goes to the first entry of its owner.
struct OwnersKey<'a> {
    owner: Option<UserId>,
    key: &'a Option<Key>,
}

impl<'a> OwnersKey<'a> {
    fn take(&mut self, user: UserId) -> Option<&'a Key> {
        if self.owner != Some(user) {
            return None;
        }
        self.owner = None;
        self.key.as_ref()
    }
}
