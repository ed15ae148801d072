//! Holds: reserve, capture, release.
//!
//! A hold moves money from `balance` to `held` and back, so the line is one and the same everywhere. It
//! is resolved once: the state is read and written under the lock of its user's row.

use super::books::{Draft, NewEntry, Stop, check_open};
use crate::ledger::{
    Capture, ChangeError, HoldState, OperationDecision, Part, Payment, Reference, Release, Reserve,
    Resolution,
};
use crate::store::posting::{EntryKind, HoldRow};

/// Sets money aside. The number of the hold is the version of its entry.
pub(super) fn reserve<'a>(
    draft: &mut Draft<'_, 'a>,
    reserve: &'a Reserve,
) -> Result<OperationDecision, Stop> {
    let Reserve { user, amount, expires_in, key, reference } = reserve;
    draft.withdrawn(*user, amount.withdrawn())?;
    let hold = draft.user(*user)?.version + 1;
    let expires_at = draft.stamp().after(*expires_in);
    let entry = NewEntry {
        amount: -amount.get(),
        held_amount: amount.get(),
        key: key.as_ref(),
        reference: reference.as_ref().map(Reference::as_str),
        hold: Some(hold),
        ..NewEntry::of(EntryKind::Hold)
    };
    let after = draft.post(*user, entry)?;
    let (amount, state) = (amount.get(), HoldState::Open);
    draft.write_hold(HoldRow { user: *user, hold, amount, captured: 0, state, expires_at });
    let (balance, held) = (after.funds.balance, after.funds.held);
    Ok(OperationDecision::Reserved { hold, balance, held, expires_at })
}

/// Takes money of a hold, gives the rest of it back, and pays what was taken to somebody, if so asked.
///
/// # Errors
/// An unknown payee or a payee's sum out of range is named as `to`.
pub(super) fn capture<'a>(
    draft: &mut Draft<'_, 'a>,
    capture: &'a Capture,
) -> Result<OperationDecision, Stop> {
    let Capture { user, hold, amount, to, key } = capture;
    let owner = draft.user(*user)?;
    let row = draft.hold(*user, *hold)?;
    check_open(&row, draft.stamp())?;
    let captured = amount.map_or(row.amount, Payment::get);
    if captured > row.amount {
        return Err(ChangeError::BeyondHold(row.amount).into());
    }
    let payee = match to {
        None => None,
        Some(to) => {
            let payee = draft.user(*to).map_err(|error| Part::To.error(error))?;
            let added = Payment::new(captured).map(Payment::added);
            draft.check_deposit(*to, added.ok_or(ChangeError::BalanceOutOfRange)?, Part::To)?;
            Some(payee)
        }
    };
    let entry = NewEntry {
        amount: row.amount - captured,
        held_amount: -row.amount,
        key: key.as_ref(),
        hold: Some(*hold),
        peer: payee.map(|payee| (payee.user, payee.version + 1)),
        ..NewEntry::of(EntryKind::Capture)
    };
    let after = draft.post(*user, entry)?;
    if let Some(payee) = payee {
        let entry = NewEntry {
            amount: captured,
            peer: Some((*user, owner.version + 1)),
            ..NewEntry::of(EntryKind::Capture)
        };
        draft.post(payee.user, entry)?;
    }
    let state = HoldState::Resolved(Resolution::Captured);
    draft.write_hold(HoldRow { captured, state, ..row });
    let (balance, held) = (after.funds.balance, after.funds.held);
    Ok(OperationDecision::Captured { captured, balance, held })
}

/// Gives all money of a hold back.
pub(super) fn release<'a>(
    draft: &mut Draft<'_, 'a>,
    release: &'a Release,
) -> Result<OperationDecision, Stop> {
    let Release { user, hold, key } = release;
    draft.user(*user)?;
    let row = draft.hold(*user, *hold)?;
    check_open(&row, draft.stamp())?;
    let entry = NewEntry {
        amount: row.amount,
        held_amount: -row.amount,
        key: key.as_ref(),
        hold: Some(*hold),
        ..NewEntry::of(EntryKind::Release)
    };
    let after = draft.post(*user, entry)?;
    let state = HoldState::Resolved(Resolution::Released);
    draft.write_hold(HoldRow { state, ..row });
    Ok(OperationDecision::Released { balance: after.funds.balance, held: after.funds.held })
}
