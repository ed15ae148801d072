//! Many changes of one request: decided each for itself, in order for each user.
//!
//! They always go through the lanes of `batched`, whichever approach is the default: the other
//! approaches take a session and a commit for each change.
//!
//! A change with a key takes the key's lock without waiting. Where another request holds it, the change
//! is answered "still running" and was never on its way. A key that comes twice in one request is no
//! conflict: both changes go to the same lane in order, and the second one replays the first.

use std::sync::Arc;

use super::batched::{Answer, Lanes, Slotted};
use crate::ledger::{Change, ChangeError, Key, Outcome, UserId};
use crate::metrics::ApproachCounters;
use crate::queue::gather::Gathered;
use crate::queue::local_lock::LocalLocks;
use crate::queue::shared_lock::{SharedLock, SharedLocks};

/// The way of many changes into the lanes.
pub(super) struct Parts {
    pub(super) lanes: Arc<Lanes>,
    pub(super) keys: LocalLocks<(UserId, Key)>,
    /// Those of `batched`.
    pub(super) counters: ApproachCounters,
}

/// The changes of one request. Clones belong to the same request.
#[derive(Clone)]
pub struct Bulk {
    parts: Arc<Parts>,
    keys: SharedLocks<(UserId, Key)>,
}

/// The answers to the changes of a bulk, in order.
pub struct Answers(Gathered<Answer>);

/// Changes that are on their way.
pub struct Submitted {
    answers: Answers,
    parts: Arc<Parts>,
    /// Held until every change is answered.
    _locks: Vec<SharedLock<(UserId, Key)>>,
}

impl Bulk {
    /// For a new request.
    pub(super) fn new(parts: &Arc<Parts>) -> Self {
        Self { parts: Arc::clone(parts), keys: SharedLocks::new(&parts.keys) }
    }

    /// Decides on each change for itself, and applies it where it is affordable. All changes get their
    /// places in the queues together.
    ///
    /// Runs to completion even if the caller is dropped.
    ///
    /// # Errors
    /// [`ChangeError::NotApplied`] when there are too few places: nothing was applied.
    pub async fn apply_each(self, changes: Vec<Change>) -> Result<Answers, ChangeError> {
        // In a task of its own: the locks must last as long as the changes, not as long as the client.
        let deciding = tokio::spawn(async move {
            let count = changes.len();
            let (submitted, slotted) = self.prepare(changes);
            if let Err(error) = submitted.parts.lanes.submit_all(slotted) {
                let answer = Err(error.clone());
                (0..count).for_each(|_| submitted.parts.counters.count(&answer));
                return Err(error);
            }
            Ok(submitted.answers().await)
        });
        // The task panicked: changes may have been applied.
        deciding.await.unwrap_or_else(|panic| Err(ChangeError::OutcomeUnknown(panic.into())))
    }

    /// Sends some changes of a stream on their way, and waits for room in the queues. Changes that are
    /// submitted later are decided later.
    ///
    /// If the future is dropped, some of the changes are on their way and others are not.
    pub async fn submit(&self, changes: Vec<Change>) -> Submitted {
        let (submitted, slotted) = self.prepare(changes);
        submitted.parts.lanes.submit_streamed(slotted).await;
        submitted
    }

    /// Takes the locks of the keys, and answers the changes whose key is in use.
    fn prepare(&self, changes: Vec<Change>) -> (Submitted, Vec<Slotted>) {
        let (answers, slots) = Gathered::new(changes.len());
        let mut locks = Vec::new();
        let mut slotted = Vec::with_capacity(changes.len());
        for (change, slot) in changes.into_iter().zip(slots) {
            if let Some(key) = &change.key {
                match self.keys.try_acquire((change.user, key.clone())) {
                    Some(lock) => locks.push(lock),
                    None => {
                        slot.fill(Err(ChangeError::KeyInProgress));
                        continue;
                    }
                }
            }
            slotted.push((change, slot));
        }
        let parts = Arc::clone(&self.parts);
        (Submitted { answers: Answers(answers), parts, _locks: locks }, slotted)
    }
}

impl Submitted {
    /// Whether all answers are there.
    pub fn is_complete(&self) -> bool {
        self.answers.0.is_complete()
    }

    /// Waits for all answers. Then the locks of the keys are released.
    pub async fn answers(self) -> Answers {
        self.answers.0.complete().await;
        self.answers.iter().for_each(|answer| self.parts.counters.count(&answer));
        self.answers
    }
}

impl Answers {
    /// Each answer, in the order of the changes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<Outcome, ChangeError>> {
        self.0.answers().map(|answer| {
            // The lane has dropped the change, which may have been sent.
            let gone = || Err(ChangeError::OutcomeUnknown("the lane has dropped it".into()));
            answer.cloned().unwrap_or_else(gone)
        })
    }
}
