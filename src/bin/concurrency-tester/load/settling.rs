//! After the first attempt of an operation: sends it again where that is safe and needed, counts how it
//! ended, and learns from the answer.

use std::time::Duration;

use tokio::time::sleep;

use super::caller::Caller;
use super::counts::{Category, Count};
use super::draw::HangUp;
use super::holds::KnownHold;
use crate::contract::answer::Said;
use crate::contract::books::HoldId;
use crate::contract::operation::Action;

/// The pause before the first further attempt, at most; each next one may be twice as long.
const PAUSE_MS: u64 = 2;
const PAUSE_MS_MAX: u64 = 500;

/// The pause after a request that was turned away is as long as after so many failed attempts.
const TURNED_AWAY: u32 = 4;

/// What the service asks for with `Retry-After` is heeded up to this: the end of a failure shall be seen
/// soon.
const HEEDED_MS_MAX: u64 = 1_000;

impl Caller {
    /// Without a key, an operation is never sent again.
    pub(super) async fn settle(
        &mut self,
        operation: usize,
        category: Category,
        mut said: Said,
        mut wanted: Option<u64>,
    ) {
        let keyed = self.recorder.record.operations[operation].key.is_some();
        let mut unknown = matches!(said, Said::Lost(_));
        let mut failures = 0;
        while keyed && is_open(&said) && !self.shared.stop.is_over(self.shared.clock) {
            self.pause(failures, wanted.take()).await;
            failures += 1;
            let target = self.rng.usize(..self.shared.instances.len());
            // Most attempts wait for their answer; some hang up once more.
            let hang_up = match self.rng.u8(..16) {
                0 if !self.shared.stop.has_begun() => HangUp::After(self.rng.u64(..8_000)),
                _ => HangUp::Never,
            };
            if let Some((now, wants)) = self.attempt(operation, target, hang_up).await {
                unknown |= matches!(now, Said::Lost(_));
                (said, wanted) = (now, wants);
            }
        }
        self.count(operation, category, &said, unknown);
        self.learn(operation, &said);
    }

    /// After a request that was turned away, so that a service that is down is not asked without a pause.
    pub(super) async fn rest(&mut self, said: &Said) {
        if *said == Said::NotApplied {
            self.pause(TURNED_AWAY, None).await;
        }
    }

    async fn pause(&mut self, failures: u32, wanted: Option<u64>) {
        let growing = (PAUSE_MS << failures.min(8)).min(PAUSE_MS_MAX);
        let wanted = wanted.map_or(0, |seconds| seconds.saturating_mul(1_000).min(HEEDED_MS_MAX));
        let pause = self.rng.u64(1..=growing.max(wanted));
        sleep(Duration::from_millis(pause)).await;
    }

    fn count(&mut self, operation: usize, category: Category, said: &Said, unknown: bool) {
        let keyed = self.recorder.record.operations[operation].key.is_some();
        let counters = &self.shared.counters;
        let by_key = match said {
            Said::Accepted(_) => {
                counters.add(category, Count::Acknowledged);
                Count::AppliedByKey
            }
            Said::Refused(_) | Said::Resolved(_) => {
                counters.add(category, Count::Refused);
                Count::NotAppliedByKey
            }
            Said::Wrong(_) => return counters.add(category, Count::Wrong),
            Said::NotApplied | Said::StillRunning | Said::Lost(_) => {
                if !unknown {
                    return counters.add(category, Count::NotApplied);
                }
                Count::Unresolved
            }
        };
        if unknown {
            counters.add(category, Count::Unknown);
            match keyed {
                true => counters.add(category, by_key),
                false => self.recorder.open.push((operation, category)),
            }
        }
    }

    fn learn(&mut self, position: usize, said: &Said) {
        if is_open(said) || matches!(said, Said::Wrong(_)) {
            return;
        }
        let operation = &self.recorder.record.operations[position];
        let keyed = operation.key.is_some();
        match (&operation.action, said) {
            (Action::Reserve { user, amount, .. }, Said::Accepted(facts)) => {
                if let Some(hold) = facts[0].version {
                    let id = HoldId { user: *user, hold };
                    self.shared.holds.add(KnownHold { id, of: *amount });
                    self.known.version(*user, hold);
                }
            }
            // Every second one stays known for a while, so that others try it as well.
            (Action::Capture { id, .. } | Action::Release { id, .. }, _) if self.rng.bool() => {
                self.shared.holds.remove(*id);
            }
            (Action::Transfer { from, to, .. }, Said::Accepted(facts)) => {
                for (user, fact) in [from, to].into_iter().zip(facts) {
                    self.known.version(*user, fact.version.unwrap_or_default());
                }
            }
            _ => {}
        }
        if keyed {
            self.remember(position);
        }
    }
}

/// Whether the operation may still be applied by another attempt.
fn is_open(said: &Said) -> bool {
    matches!(said, Said::NotApplied | Said::StillRunning | Said::Lost(_))
}
