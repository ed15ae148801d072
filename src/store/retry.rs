//! The one bounded retry, with jitter.
//!
//! Only what PostgreSQL has rolled back in full is tried again: a lost race, a deadlock, a key that
//! somebody else used in the meantime. The caller re-runs the whole transaction, never a part.

use std::time::Duration;

use tokio::time::sleep;

use super::error::{Sent, change_error, sqlstate};
use super::idempotency;
use crate::balance::ChangeError;

/// How a try failed.
#[derive(Debug)]
pub enum Failure {
    /// Lost against somebody else, and rolled back: another try may win.
    LostRace(ChangeError),
    /// Another try would not help, or might do it twice.
    Final(ChangeError),
}

impl Failure {
    /// Sorts a failure of the database.
    pub fn from_database(error: sqlx::Error, sent: Sent) -> Self {
        let raced = matches!(sqlstate(&error).as_deref(), Some("40001" | "40P01"));
        if raced || idempotency::is_conflict(&error) {
            return Self::LostRace(ChangeError::NotApplied(error.into()));
        }
        Self::Final(change_error(error, sent))
    }

    /// For `map_err`, inside a transaction.
    pub fn before_commit(error: sqlx::Error) -> Self {
        Self::from_database(error, Sent::NothingFinal)
    }

    /// For `map_err`, on a commit or on a statement that commits by itself.
    pub fn at_commit(error: sqlx::Error) -> Self {
        Self::from_database(error, Sent::Commit)
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        Self::Final(error)
    }
}

/// How often, and how long to wait in between.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Tries in all.
    pub tries_max: u32,
    /// The longest pause before the second try; it doubles with each further one.
    pub pause: Duration,
    /// Where the doubling ends.
    pub pause_max: Duration,
}

/// The tries of one change.
pub(super) struct Tries {
    policy: Policy,
    made: u32,
}

impl Tries {
    /// Before the first try.
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, made: 0 }
    }

    /// Ends with the result, or pauses and lets the caller try again (`None`).
    ///
    /// # Errors
    /// What the last try failed with.
    pub(super) async fn settle<T>(
        &mut self,
        result: Result<T, Failure>,
    ) -> Option<Result<T, ChangeError>> {
        match result {
            Ok(value) => return Some(Ok(value)),
            Err(Failure::Final(error)) => return Some(Err(error)),
            Err(Failure::LostRace(error)) => {
                self.made += 1;
                if self.made >= self.policy.tries_max {
                    return Some(Err(error));
                }
            }
        }
        sleep(self.pause()).await;
        None
    }

    /// Anything between nothing and the doubled pause, so that those who lost to each other do not
    /// meet again.
    fn pause(&self) -> Duration {
        let doubled = self.policy.pause.saturating_mul(1 << self.made.min(16).saturating_sub(1));
        doubled.min(self.policy.pause_max).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        tries_max: 3,
        pause: Duration::from_micros(1),
        pause_max: Duration::from_micros(4),
    };

    fn lost() -> Result<u8, Failure> {
        Err(Failure::LostRace(ChangeError::NotApplied("lost".into())))
    }

    #[tokio::test]
    async fn a_lost_race_is_tried_again_until_the_bound() {
        let mut tries = Tries::new(POLICY);
        assert!(tries.settle(lost()).await.is_none());
        assert!(tries.settle(lost()).await.is_none());
        let end = tries.settle(lost()).await.expect("the third was the last");
        assert!(matches!(end, Err(ChangeError::NotApplied(_))));
    }

    #[tokio::test]
    async fn what_is_final_is_never_tried_again() {
        let mut tries = Tries::new(POLICY);
        let end = tries.settle::<u8>(Err(Failure::Final(ChangeError::UserNotFound))).await;
        assert!(matches!(end, Some(Err(ChangeError::UserNotFound))));
    }

    #[test]
    fn pauses_grow_but_not_beyond_their_end() {
        for made in [1, 2, 3, 40, u32::MAX] {
            assert!(Tries { policy: POLICY, made }.pause() <= POLICY.pause_max, "{made}");
        }
    }
}
