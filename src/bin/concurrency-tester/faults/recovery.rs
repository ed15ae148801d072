//! How long the service took to work again after a fault: from the record of the clients.

use std::time::Duration;

use crate::contract::answer::Said;
use crate::witness::record::Record;

/// The accepted requests of each instance.
pub(crate) struct Successes {
    /// When it was sent, and the earliest return of it and all that were sent later; in order.
    of_targets: Vec<Vec<(u64, u64)>>,
}

impl Successes {
    pub(crate) fn of(record: &Record, targets: usize) -> Self {
        let mut of_targets = vec![Vec::new(); targets];
        for attempt in &record.attempts {
            if let (Said::Accepted(_), Some(target)) =
                (&attempt.said, of_targets.get_mut(attempt.target))
            {
                target.push((attempt.window.called, attempt.window.returned));
            }
        }
        for target in &mut of_targets {
            target.sort_unstable();
            let mut earliest = u64::MAX;
            for (_, returned) in target.iter_mut().rev() {
                earliest = earliest.min(*returned);
                *returned = earliest;
            }
        }
        Self { of_targets }
    }

    /// When each instance had accepted a request that was sent at `back` or later.
    pub(crate) fn after(&self, back: u64) -> Option<u64> {
        let first = |target: &Vec<(u64, u64)>| {
            let from = target.partition_point(|(called, _)| *called < back);
            target.get(from).map(|(_, returned)| *returned)
        };
        let firsts: Option<Vec<_>> = self.of_targets.iter().map(first).collect();
        firsts?.into_iter().max()
    }
}

/// Recovery times, to be asked for percentiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut sorted: Vec<_> = times.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl Times {
    /// The time that `percent` of them do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted.get(rank.saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::record::{Attempt, Window};

    fn record(attempts: &[(usize, u64, u64, bool)]) -> Record {
        let attempt = |(target, called, returned, accepted): &(usize, u64, u64, bool)| Attempt {
            operation: 0,
            target: *target,
            request: 0,
            position: 0,
            window: Window { called: *called, returned: *returned },
            said: if *accepted { Said::Accepted(Vec::new()) } else { Said::NotApplied },
            text: "".into(),
        };
        Record { attempts: attempts.iter().map(attempt).collect(), ..Record::default() }
    }

    #[test]
    fn recovery_is_the_first_success_of_the_instance_that_takes_longest() {
        let record = record(&[
            (0, 5, 9, true),
            (0, 9, 30, true), // sent before
            (0, 11, 40, true),
            (0, 12, 20, true), // sent later, and faster
            (0, 10, 12, false),
            (1, 13, 25, true),
            (1, 30, 31, true),
        ]);
        assert_eq!(Successes::of(&record, 2).after(10), Some(25));
        assert_eq!(
            Successes::of(&record, 2).after(14),
            None,
            "one instance has no success any more"
        );
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Times = (1..=200).rev().map(Duration::from_millis).collect();
        let of = |percent| times.percentile(percent).map(|time| time.as_millis());
        assert_eq!([of(50), of(99), of(100)], [Some(100), Some(198), Some(200)]);
        assert_eq!(Times::default().percentile(99), None);
    }
}
