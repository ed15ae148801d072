//! Which question the reader asks next, and when.
//!
//! The full question is for the new entries of all watched users. Each has the same share of its answer, so
//! that none keeps the others waiting. Where many are watched the share is small, and a busy user has
//! more. Then a question for the rest follows, for such users only and with a larger share, and so on until
//! the full question is due again. At least one question for the rest comes between two full ones, so a
//! busy user gets on however long these take. The full question, whose cost is that of all users, keeps its
//! pause whatever one of them does.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest pause between two full questions. An entry is seen after half of it on average.
const PERIOD: Duration = Duration::from_millis(100);

/// The longest pause. So an entry is seen within half a second if a full question and one for the rest take
/// no longer than 200 ms together, and the rest fits into one.
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// The pause for each watcher that got something, within these limits. A write to a socket and the wake-ups
/// for it cost some 30 µs, however many entries there are, so a crowd gets more at once and less often.
const PAUSE_PER_WATCHER: Duration = Duration::from_micros(300);

/// The pause is so many times as long as the full question took, within the same limits. Many watched users
/// cost a search in an index each: 10,000 of them 41 and 84 ms, on a busy machine.
const PAUSE_FACTOR: u32 = 4;

/// The entries of one answer, shared by the users.
const ANSWER_ENTRIES: i64 = 16_384;

/// The least share of one user.
const SHARE_MIN: i64 = 4;

/// The pause after a failure of the database, or a panic.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// What is asked next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The new entries of all watched users.
    Full,
    /// Those of these users only, in their order.
    Rest(Vec<i64>),
}

/// What a question has found for one user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) user: i64,
    /// How many entries were taken.
    pub(super) entries: i64,
    /// Whether there were more, which would have been too long.
    pub(super) is_cut: bool,
}

/// What a question has found.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) now: Instant,
    pub(super) took: Duration,
    pub(super) found: Vec<Found>,
    /// How many watchers got something.
    pub(super) woken: usize,
}

/// When the next questions are due, and for how many entries of each user.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// None while nobody watches.
    full_due: Option<Instant>,
    rest: Option<Rest>,
    /// How many entries of one user were not too long. It grows with each question that finds no
    /// others, and is forgotten at last.
    fits: Option<i64>,
}

/// The users that have more than was read.
#[derive(Debug)]
struct Rest {
    due: Instant,
    users: Vec<i64>,
    /// Whether the last question was the full one.
    is_first: bool,
}

impl Schedule {
    /// When the next question is due; none while nobody watches.
    pub(super) fn due(&self) -> Option<Instant> {
        let full = self.full_due?;
        Some(self.rest.as_ref().map_or(full, |rest| rest.due.min(full)))
    }

    /// Somebody watches.
    pub(super) fn start(&mut self, now: Instant) {
        self.full_due = Some(now + PERIOD);
    }

    /// Nobody watches.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// The share of each user in a question for so many. What would not fit is not read in vain.
    pub(super) fn share(&self, users: usize) -> i64 {
        let share = ANSWER_ENTRIES / i64::try_from(users.max(1)).unwrap_or(i64::MAX);
        share.max(SHARE_MIN).min(self.fits.unwrap_or(i64::MAX))
    }

    /// The question that is due.
    pub(super) fn next(&mut self, now: Instant) -> Question {
        let is_full_due = self.full_due.is_none_or(|due| due <= now);
        match self.rest.take() {
            Some(Rest { users, is_first, .. }) if is_first || !is_full_due => Question::Rest(users),
            // The full question finds all of them again.
            _ => Question::Full,
        }
    }

    /// A question with this share for each user was answered. `found` is in the order of the users. So
    /// many watchers got something.
    ///
    /// The next one follows after the time that this one took, at the earliest. So the database is busy with
    /// questions for half of the time at most, and watchers can take what they were given. That pause is no
    /// longer than a period: a database that needs longer for a question gets less rest.
    pub(super) fn answered(&mut self, question: &Question, share: i64, answer: &Answer) {
        let Answer { now, took, woken, .. } = *answer;
        let is_full = *question == Question::Full;
        let due = now + took.min(PERIOD);
        self.full_due = match self.full_due {
            Some(full_due) if !is_full => Some(full_due.max(due)),
            _ => {
                let crowd = PAUSE_PER_WATCHER.saturating_mul(woken.try_into().unwrap_or(u32::MAX));
                Some(now + (took * PAUSE_FACTOR).max(crowd).clamp(PERIOD, PAUSE_MAX))
            }
        };
        let cut = answer.found.iter().filter(|found| found.is_cut);
        let grown = self.fits.map(|fits| fits + fits / 4 + 1);
        self.fits = cut
            .map(|found| found.entries.max(1))
            .min()
            .or(grown.filter(|fits| *fits < ANSWER_ENTRIES));
        let has_more = |found: &&Found| found.is_cut || found.entries >= share;
        let users: Vec<i64> =
            answer.found.iter().filter(has_more).map(|found| found.user).collect();
        self.rest = (!users.is_empty()).then_some(Rest { due, users, is_first: is_full });
    }

    /// A question has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        *self = Self { full_due: Some(now + RETRY_PAUSE), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: i64 = 7;
    const NOBODY_ELSE: usize = 0;

    /// One user of many gets entries at a constant rate. The others get none.
    struct Load {
        others: usize,
        per_second: f64,
        /// How long the full question takes beside its entries, and each entry.
        full: Duration,
        entry: Duration,
        /// How many entries of the busy user are not too long.
        fits: i64,
    }

    #[derive(Default)]
    struct Seen {
        full: Vec<Instant>,
        rest: usize,
        read: i64,
        in_vain: i64,
        lag_max: i64,
        busy: Duration,
    }

    impl Load {
        /// Asks for ten seconds, without waiting.
        fn run(&self) -> Seen {
            let begun = Instant::now();
            let (mut schedule, mut seen) = (Schedule::default(), Seen::default());
            schedule.start(begun);
            loop {
                let mut now = schedule.due().unwrap();
                if now > begun + Duration::from_secs(10) {
                    return seen;
                }
                let question = schedule.next(now);
                let (users, mut took) = match &question {
                    Question::Full => (self.others + 1, self.full),
                    Question::Rest(users) => (users.len(), Duration::from_millis(1)),
                };
                match &question {
                    Question::Full => seen.full.push(now),
                    Question::Rest(users) => {
                        assert_eq!(users, &[BUSY]);
                        seen.rest += 1;
                    }
                }
                let share = schedule.share(users);
                #[expect(clippy::cast_possible_truncation, reason = "a test's own figures")]
                let written = (now.duration_since(begun).as_secs_f64() * self.per_second) as i64;
                let sent = (written - seen.read).min(share);
                let entries = sent.min(self.fits);
                took += self.entry * u32::try_from(sent).unwrap();
                now += took;
                seen.busy += took;
                seen.read += entries;
                seen.in_vain += sent - entries;
                seen.lag_max = seen.lag_max.max(written - seen.read);
                let found = vec![Found { user: BUSY, entries, is_cut: sent > entries }];
                schedule.answered(&question, share, &Answer { now, took, found, woken: 1 });
            }
        }
    }

    fn load(others: usize) -> Load {
        Load {
            others,
            per_second: 40_000.0,
            full: Duration::from_micros(100 + 8 * u64::try_from(others).unwrap()),
            entry: Duration::from_micros(4),
            fits: i64::MAX,
        }
    }

    #[test]
    fn a_busy_user_stays_close_however_many_others_are_watched() {
        for others in [NOBODY_ELSE, 100, 1_000, 4_096, 8_192, 10_000] {
            let load = load(others);
            let seen = load.run();
            let pauses = seen.full.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
            assert!(pauses >= PERIOD.max(load.full), "{others}: {pauses:?}");
            assert!(seen.full.len() >= 20, "{others}: {}", seen.full.len());
            // What is written within half a second.
            assert!(seen.lag_max < 20_000, "{others}: {}", seen.lag_max);
            assert!(seen.busy < Duration::from_secs(5), "{others}: {:?}", seen.busy);
            assert!(seen.rest <= seen.full.len() * 3, "{others}: {}", seen.rest);
        }
        assert_eq!(load(NOBODY_ELSE).run().rest, 0, "alone, it has the whole share");
    }

    #[test]
    fn long_entries_are_read_as_fast_and_seldom_in_vain() {
        for others in [NOBODY_ELSE, 4_096] {
            let seen = Load { fits: 1_600, ..load(others) }.run();
            assert!(seen.lag_max < 20_000, "{others}: {}", seen.lag_max);
            assert!(seen.in_vain < seen.read, "{others}: {} of {}", seen.in_vain, seen.read);
        }
    }

    #[test]
    fn only_those_that_have_more_are_asked_for_again() {
        let (now, took) = (Instant::now(), Duration::from_millis(30));
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(), None);
        schedule.start(now);
        assert_eq!(
            (schedule.due(), schedule.next(now + PERIOD)),
            (Some(now + PERIOD), Question::Full)
        );
        let found = |user, entries, is_cut| Found { user, entries, is_cut };
        let answer = |now, found| Answer { now, took, found, woken: 1 };
        let share = schedule.share(4_096);
        assert_eq!(share, 4);
        let all =
            vec![found(1, 4, false), found(2, 3, false), found(5, 1, true), found(9, 4, false)];
        schedule.answered(&Question::Full, share, &answer(now, all));
        assert_eq!(schedule.due(), Some(now + took));
        // Even if the full question is due already: it has just been asked.
        let late = now + PAUSE_MAX;
        let question = schedule.next(late);
        assert_eq!(question, Question::Rest(vec![1, 5, 9]));
        assert_eq!(schedule.share(3), 1, "as many as fitted");
        schedule.answered(&question, 1, &answer(late, vec![found(9, 1, false)]));
        assert_eq!(schedule.share(1), 2);
        assert_eq!(
            (schedule.due(), schedule.next(late + took)),
            (Some(late + took), Question::Full)
        );
        // Nothing is left of it, whatever follows.
        schedule.answered(&Question::Full, 4, &answer(late, vec![found(9, 3, false)]));
        assert_eq!(schedule.due(), Some(late + took * PAUSE_FACTOR));
        schedule.failed(late);
        assert_eq!((schedule.due(), schedule.share(1)), (Some(late + RETRY_PAUSE), ANSWER_ENTRIES));
        schedule.stop();
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn a_crowd_gets_more_at_once() {
        let now = Instant::now();
        let pause = |woken, took| {
            let mut schedule = Schedule::default();
            let answer = Answer { now, took, found: Vec::new(), woken };
            schedule.answered(&Question::Full, 4, &answer);
            schedule.due().unwrap() - now
        };
        let short = Duration::from_millis(1);
        assert_eq!(pause(1, short), PERIOD);
        assert_eq!(pause(500, short), Duration::from_millis(150));
        assert_eq!(pause(100_000, short), PAUSE_MAX);
        assert_eq!(pause(1, Duration::from_millis(50)), Duration::from_millis(200));
        assert_eq!(pause(1, Duration::from_secs(5)), PAUSE_MAX);
    }
}
