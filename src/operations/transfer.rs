//! A transfer: two entries that name each other.

use super::books::{Draft, NewEntry, Stop};
use crate::ledger::{OperationDecision, Part, Position, Reference, Transfer};
use crate::store::posting::{EntryKind, UserRow};

/// Moves money from one user to the other.
///
/// # Errors
/// An unknown user or a sum out of range is named with its side.
pub(super) fn decide<'a>(
    draft: &mut Draft<'_, 'a>,
    transfer: &'a Transfer,
) -> Result<OperationDecision, Stop> {
    let Transfer { from, to, amount, key, reference } = transfer;
    let payer = draft.user(*from).map_err(|error| Part::From.error(error))?;
    let payee = draft.user(*to).map_err(|error| Part::To.error(error))?;
    draft.withdrawn(*from, amount.withdrawn())?;
    draft.check_deposit(*to, amount.added(), Part::To)?;
    let entry = NewEntry {
        reference: reference.as_ref().map(Reference::as_str),
        ..NewEntry::of(EntryKind::Transfer)
    };
    let paid = NewEntry {
        amount: -amount.get(),
        key: key.as_ref(),
        peer: Some((*to, payee.version + 1)),
        ..entry
    };
    let received =
        NewEntry { amount: amount.get(), peer: Some((*from, payer.version + 1)), ..entry };
    let from = position(draft.post(*from, paid)?);
    let to = position(draft.post(*to, received)?);
    Ok(OperationDecision::Transferred { from, to })
}

fn position(row: UserRow) -> Position {
    Position { balance: row.funds.balance, version: row.version }
}
