//! The samples of the last minutes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::charts::{DrawnChart, draw};
use super::sample::Sample;

/// The time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// How many there are: of five minutes, with the one before the first. About 2 kB each.
const SAMPLES_MAX: usize = 301;

/// What the charts show, in seconds.
const MINUTES_SECS: f64 = 300.0;

/// The samples and the charts of a service. Clones share them.
#[derive(Clone, Default)]
pub struct Console(Arc<Shared>);

#[derive(Default)]
struct Shared {
    samples: Mutex<Samples>,
    drawn: Mutex<(u64, Arc<[DrawnChart]>)>,
}

#[derive(Clone, Default)]
pub(super) struct Samples {
    /// How many were ever taken.
    number: u64,
    pub(super) kept: VecDeque<(Instant, Arc<Sample>)>,
}

impl Console {
    /// Takes a sample each second, until it is dropped.
    pub async fn run(self, metrics: Arc<dyn Fn() -> String + Send + Sync>) {
        let mut ticks = interval(PERIOD);
        // A sample that comes late is one of a longer time: rates are by the time that has passed.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let sample = Arc::new(Sample::of(&metrics()));
            lock(&self.0.samples).push(Instant::now(), sample);
        }
    }

    /// The charts of the last minutes. Takes some milliseconds where a sample is new, so it is not for a thread
    /// that serves requests.
    pub fn charts(&self) -> Arc<[DrawnChart]> {
        // Held while it draws: whoever else asks wants the same.
        let mut drawn = lock(&self.0.drawn);
        let samples = lock(&self.0.samples).clone();
        if drawn.0 != samples.number || drawn.1.is_empty() {
            *drawn = (samples.number, draw(&samples).into());
        }
        Arc::clone(&drawn.1)
    }
}

impl Samples {
    fn push(&mut self, now: Instant, sample: Arc<Sample>) {
        if self.kept.len() == SAMPLES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((now, sample));
        self.number += 1;
    }

    /// For each second of the last five minutes, from the oldest: how long ago it ended in seconds, how long it
    /// was, and its samples. Where samples came late, older ones are kept as well.
    pub(super) fn seconds(&self) -> impl Iterator<Item = (f64, f64, &Sample, &Sample)> {
        let last = self.kept.back().map(|(at, _)| *at);
        let pairs = self.kept.iter().zip(self.kept.iter().skip(1));
        let seconds = pairs.map(move |((began, before), (ended, after))| {
            let ago = last.map_or(0.0, |last| (last - *ended).as_secs_f64());
            (ago, (*ended - *began).as_secs_f64().max(1e-3), &**before, &**after)
        });
        seconds.filter(|(ago, ..)| *ago < MINUTES_SECS)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_minutes_are_kept_and_drawn_again_with_each_new_sample() {
        let console = Console::default();
        let before = console.charts();
        assert!(Arc::ptr_eq(&before, &console.charts()));
        let running = tokio::spawn(console.clone().run(Arc::new(String::new)));
        tokio::time::sleep(Duration::from_secs(400) + PERIOD / 2).await;
        let samples = lock(&console.0.samples).clone();
        assert_eq!((samples.number, samples.kept.len()), (401, SAMPLES_MAX));
        assert_eq!(samples.seconds().count(), 300);
        let (ago, long, _, _) = samples.seconds().next().unwrap();
        assert_eq!((ago.round().to_string(), long.round().to_string()), ("299".into(), "1".into()));
        tokio::time::advance(Duration::from_secs(100)).await;
        tokio::task::yield_now().await;
        let late = lock(&console.0.samples).clone();
        assert_eq!((late.number, late.seconds().count()), (402, 201));
        let after = console.charts();
        assert!(!Arc::ptr_eq(&before, &after));
        assert!(Arc::ptr_eq(&after, &console.charts()));
        running.abort();
    }
}
