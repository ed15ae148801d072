//! The mistakes, and when they strike.

use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

/// A mistake that real ledgers have made. Each is one small variation of one place of this service,
/// where a comment says what the mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bug {
    ReadModifyWrite,
    MissingGuard,
    AnswerBeforeCommit,
    FailureAfterAnswer,
    UnflushedCommits,
    KeyAfterEffect,
    KeyBeforeEffect,
    RetryAfterUnknownCommit,
    StaleRefusal,
    SwappedAnswers,
    SplitBatchAppliedTwice,
    HalfTransfer,
    HoldCapturedTwice,
    ExpiredHoldCaptured,
    AppliedBut503,
    BulkStopsHalfWay,
    DepositsFirst,
    StaleRead,
    DirtyRead,
    ClockRunsBackwards,
    MomentNotFinal,
    KeyPerRoute,
    KeyForAnyRequest,
    ReplayOfNow,
    RefusalNotKept,
}

/// The mistake of one service. Some strike by themselves, whenever two requests meet in the wrong way;
/// others wait for a rare failure, which is drawn here.
#[derive(Debug)]
pub(super) struct Planted {
    bug: Option<Bug>,
    seed: u64,
    chances: AtomicU64,
}

impl Planted {
    pub(super) fn new(bug: Option<Bug>, seed: u64) -> Self {
        Self { bug, seed, chances: AtomicU64::new(0) }
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// True at about one of so many chances.
    pub(super) fn strikes(&self, bug: Bug, one_of: u64) -> bool {
        if !self.has(bug) {
            return false;
        }
        let chance = self.chances.fetch_add(1, Ordering::Relaxed);
        Rng::with_seed(self.seed.wrapping_add(chance.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .u64(..one_of)
            == 0
    }
}
