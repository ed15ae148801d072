//! The promises that must hold after every run.

use std::time::Duration;

use super::super::{Answer, Time};
use super::run::{Asked, KEY_WAIT, Played};
use super::story::{Story, USERS};
use super::world::{Row, Written};
use crate::ledger::{ChangeError, Decision, Outcome};
use crate::store::held::WAIT_MAX;

/// The longest wait of a change whose own row is free, where held rows are the only trouble: one lock
/// wait for each of the other users, and a few round trips.
const OTHERS_WAIT_MAX: Duration = Duration::from_millis(1_200);

/// Checks every promise.
///
/// # Errors
/// A sentence about the first broken one.
pub(super) fn check(story: &Story, played: &Played) -> Result<(), String> {
    if !played.is_finished {
        return Err(format!("not finished after {} requests", played.requests));
    }
    for (user, row) in &played.world.rows {
        check_journal(*user, story, row)?;
    }
    for asked in &played.asked {
        let [(answered, answer)] = asked.answers.as_slice() else {
            return Err(format!("not one answer: {asked:?}"));
        };
        check_answer(story, played, asked, *answered, answer)
            .map_err(|what| format!("{what}: {asked:?}"))?;
        if story.has_only_held_rows() {
            check_wait(story, asked, *answered)?;
        }
    }
    for (user, row) in &played.world.rows {
        for written in &row.journal {
            check_is_answered(played, *user, written)?;
        }
    }
    Ok(())
}

fn check_journal(user: i64, story: &Story, row: &Row) -> Result<(), String> {
    let mut balance = story.balances[usize::try_from(user - 1).unwrap()];
    for written in &row.journal {
        balance += written.amount;
        if balance != written.balance || balance < 0 {
            return Err(format!("user {user}: the journal is wrong at {written:?}"));
        }
        let same = row.journal.iter().filter(|other| match &written.key {
            Some(key) => other.key.as_ref() == Some(key),
            None => other.key.is_none() && other.amount == written.amount && other.amount != 1,
        });
        if same.count() > 1 {
            return Err(format!("user {user}: twice: {written:?}"));
        }
    }
    Ok(())
}

/// The journal row of this request.
fn row_of<'a>(played: &'a Played, asked: &Asked) -> Option<&'a Written> {
    let journal = &played.world.rows.get(&asked.ask.user)?.journal;
    journal
        .iter()
        .find(|written| written.amount == asked.ask.amount && written.key == asked.ask.key)
}

/// Whether `holds` was true of the balance at some moment between call and answer.
fn was(
    played: &Played,
    story_user: i64,
    from: Time,
    to: Time,
    holds: impl Fn(i64) -> bool,
) -> bool {
    let Some(row) = played.world.rows.get(&story_user) else { return false };
    let first = row.journal.first().map_or(row.balance, |first| first.balance - first.amount);
    let mut current = first;
    let mut at_call = first;
    let mut found = false;
    for written in &row.journal {
        if written.at <= from {
            at_call = written.balance;
        } else if written.at <= to {
            found |= holds(written.balance) || holds(current);
        }
        current = written.balance;
    }
    found || holds(at_call)
}

fn check_answer(
    story: &Story,
    played: &Played,
    asked: &Asked,
    answered: Time,
    answer: &Answer,
) -> Result<(), &'static str> {
    let ask = &asked.ask;
    let stored = ask.key.as_ref().map(|key| played.world.keys.get(&(ask.user, key.clone())));
    let row = row_of(played, asked);
    match answer {
        Ok(Outcome { decision, replayed }) => {
            if let Some(stored) = stored {
                let stored = stored.ok_or("an outcome that is not stored with its key")?;
                if stored.amount != ask.amount || stored.decision != *decision {
                    return Err("another outcome than the stored one");
                }
            }
            match decision {
                // A change of zero only reads.
                Decision::Accepted(balance) if ask.amount == 0 => {
                    let is_it = |current: i64| current == *balance;
                    if !replayed && !was(played, ask.user, asked.called, answered, is_it) {
                        return Err("a balance that was never there");
                    }
                }
                Decision::Accepted(balance) => {
                    let row = row.ok_or("accepted, and not in the journal")?;
                    if row.balance != *balance {
                        return Err("accepted with another balance than the journal's");
                    }
                    if !replayed && !(asked.called..=answered).contains(&row.at) {
                        return Err("accepted, but applied at another time");
                    }
                }
                Decision::Refused if row.is_some() => return Err("refused, and applied"),
                Decision::Refused if !replayed => {
                    let short =
                        |balance: i64| balance.checked_add(ask.amount).is_some_and(|b| b < 0);
                    if !was(played, ask.user, asked.called, answered, short) {
                        return Err("refused, though the balance sufficed all the time");
                    }
                }
                Decision::Refused => {}
            }
        }
        Err(ChangeError::KeyReused) => {
            let stored = stored.flatten().ok_or("the key was used, but it is not stored")?;
            if stored.amount == ask.amount {
                return Err("the key was used by this very change");
            }
        }
        Err(ChangeError::BalanceOutOfRange) => {
            if story.answers("22003") {
                return Ok(());
            }
            if stored.flatten().is_some_and(|stored| stored.at < asked.called) {
                return Err("out of range, though its key was used before");
            }
            let beyond = |balance: i64| balance.checked_add(ask.amount).is_none();
            if !was(played, ask.user, asked.called, answered, beyond) {
                return Err("out of range, though it fitted all the time");
            }
        }
        Err(ChangeError::UserNotFound) if ask.user <= USERS => return Err("the user exists"),
        Err(ChangeError::OutcomeUnknown(_)) if ask.amount == 0 && ask.key.is_none() => {
            return Err("a read whose outcome is unknown");
        }
        Err(ChangeError::UserNotFound | ChangeError::OutcomeUnknown(_)) => {}
        Err(
            ChangeError::NotApplied(_)
            | ChangeError::Busy(_)
            | ChangeError::KeyInProgress
            | ChangeError::Internal(_),
        ) => {
            if ask.key.is_none() && row.is_some() {
                return Err("not applied, and in the journal");
            }
        }
        Err(
            ChangeError::HoldNotFound
            | ChangeError::HoldResolved(_)
            | ChangeError::BeyondHold(_)
            | ChangeError::Part(..),
        ) => return Err("an error of another operation"),
    }
    Ok(())
}

/// Each applied change was answered with its outcome or as unknown, to at least one caller.
fn check_is_answered(played: &Played, user: i64, written: &Written) -> Result<(), String> {
    let mut askers = played.asked.iter().filter(|asked| {
        asked.ask.user == user
            && asked.ask.amount == written.amount
            && asked.ask.key == written.key
            && asked.called <= written.at
    });
    let knows = |asked: &Asked| {
        asked
            .answers
            .iter()
            .any(|(_, answer)| matches!(answer, Ok(_) | Err(ChangeError::OutcomeUnknown(_))))
    };
    let mut is_ours = false;
    let known = askers.by_ref().any(|asked| {
        is_ours = true;
        knows(asked)
    });
    if is_ours && !known && !written.by_another {
        return Err(format!("user {user}: applied, but answered as not applied: {written:?}"));
    }
    Ok(())
}

fn check_wait(story: &Story, asked: &Asked, answered: Time) -> Result<(), String> {
    let waited = answered - asked.called;
    let is_held = story.holds(asked.ask.user);
    let most = if is_held { WAIT_MAX + OTHERS_WAIT_MAX } else { OTHERS_WAIT_MAX };
    // It first waits for another change with the same key.
    let most = if asked.ask.key.is_some() { most + KEY_WAIT } else { most };
    if waited > most {
        let kind = if is_held { "of a held user" } else { "of another user" };
        return Err(format!("a change {kind} waited for {waited:?}: {asked:?}"));
    }
    Ok(())
}
