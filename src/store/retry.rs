//! Bounded retries with jitter.
//!
//! Only transactions that PostgreSQL has rolled back in full are retried: after a lost race, a deadlock,
//! or a key that a concurrent request used first. The caller re-runs the whole transaction, never a
//! part. The bound is a time and not a number of attempts, since the disk decides how many fit into it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long attempts are made, and the pauses between them.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// No further attempt begins after this time.
    pub limit: Duration,
    /// The longest pause before the second attempt; it doubles with each further one.
    pub pause: Duration,
    /// The longest pause at all.
    pub pause_max: Duration,
}

/// The attempts of one change.
pub(crate) struct Attempts {
    policy: Policy,
    began: Instant,
    made: u32,
}

impl Attempts {
    /// Before the first attempt.
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, began: Instant::now(), made: 0 }
    }

    /// Pauses and returns true if there is time for another attempt.
    pub(crate) async fn again(&mut self) -> bool {
        self.made = self.made.saturating_add(1);
        if self.began.elapsed() >= self.policy.limit {
            return false;
        }
        sleep(self.pause()).await;
        true
    }

    /// A random part of the doubled pause, so that competitors do not collide again.
    fn pause(&self) -> Duration {
        let doubled = self.policy.pause.saturating_mul(1 << self.made.min(16).saturating_sub(1));
        doubled.min(self.policy.pause_max).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        limit: Duration::from_secs(2),
        pause: Duration::from_millis(1),
        pause_max: Duration::from_millis(100),
    };

    #[tokio::test(start_paused = true)]
    async fn attempts_continue_until_the_limit_and_no_longer() {
        let began = Instant::now();
        let mut attempts = Attempts::new(POLICY);
        let mut made = 0;
        while attempts.again().await {
            made += 1;
        }
        assert!(made > 20, "{made}");
        let took = began.elapsed();
        assert!((POLICY.limit..POLICY.limit + POLICY.pause_max).contains(&took), "{took:?}");
    }

    #[test]
    fn pauses_are_bounded() {
        for made in [1, 2, 3, 40, u32::MAX] {
            let attempts = Attempts { policy: POLICY, began: Instant::now(), made };
            assert!(attempts.pause() <= POLICY.pause_max, "{made}");
        }
    }
}
