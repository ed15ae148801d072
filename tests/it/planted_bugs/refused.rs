//! A cache of refusals, to spare the database: changes refresh it, but transfers and holds do not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::operation::{Action, Operation};

/// How long a refusal is believed.
const AGE_MAX: Duration = Duration::from_secs(1);

/// By user: the most that the balance was when an operation was refused, and when that was.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<HashMap<i64, (i64, Instant)>>);

impl Refused {
    /// A refusal that follows from an earlier one.
    pub(super) fn answer(&self, batch: &[Operation]) -> Option<Answer> {
        let [Operation { action, key: None, .. }] = batch else { return None };
        let (user, amount) = needed(action)?;
        let refused = self.0.lock().unwrap();
        let (balance, since) = refused.get(&user)?;
        (*balance < amount && since.elapsed() < AGE_MAX).then(|| Answer::refusal(None))
    }

    pub(super) fn note(&self, batch: &[Operation], answers: &[Answer]) {
        let ([Operation { action, .. }], [answer]) = (batch, answers) else { return };
        let mut refused = self.0.lock().unwrap();
        if let Action::Change { user, .. } = action
            && answer.is_success()
        {
            refused.remove(user);
        } else if let Some((user, amount)) = needed(action)
            && *answer == Answer::refusal(None)
        {
            refused.insert(user, (amount - 1, Instant::now()));
        }
    }
}

/// Who needs how much for this, if it is one debit.
fn needed(action: &Action) -> Option<(i64, i64)> {
    match *action {
        Action::Change { user, amount } if amount < 0 => Some((user, -amount)),
        Action::Transfer { from, amount, .. } => Some((from, amount)),
        Action::Reserve { user, amount, .. } => Some((user, amount)),
        _ => None,
    }
}
