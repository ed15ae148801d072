//! Which faults happen, when, for how long and to whom: decided by the seed alone.

use std::time::Duration;

use fastrand::Rng;

use super::kind::{Kind, Network};

/// One fault of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The pause before it.
    pub(crate) gap: Duration,
    pub(crate) lasts: Duration,
    /// The next one does not wait for its end.
    pub(crate) overlaps: bool,
    /// Chooses the instance, the session, the connection, the direction.
    pub(crate) draw: u32,
}

/// How quickly faults follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Quick,
    Steady,
}

/// The endless schedule of one round. Every kind comes once before any comes again.
#[derive(Debug)]
pub(crate) struct Schedule {
    rng: Rng,
    kinds: Vec<Kind>,
    pace: Pace,
    /// The next one is the last.
    left: Vec<Kind>,
}

impl Schedule {
    /// `kinds` are those that fit the round, at least one; a kind that is there several times comes as often.
    /// Of these, `first` come before the others.
    pub(crate) fn new(seed: u64, kinds: &[Kind], first: &[Kind], pace: Pace) -> Self {
        let mut schedule =
            Self { rng: Rng::with_seed(seed), kinds: kinds.to_vec(), pace, left: Vec::new() };
        schedule.shuffle();
        for kind in first {
            if let Some(position) = schedule.left.iter().position(|left| left == kind) {
                let kind = schedule.left.remove(position);
                schedule.left.push(kind);
            }
        }
        schedule
    }

    fn kind(&mut self) -> Option<Kind> {
        if self.left.is_empty() {
            self.shuffle();
        }
        self.left.pop()
    }

    fn shuffle(&mut self) {
        self.left.clone_from(&self.kinds);
        self.rng.shuffle(&mut self.left);
    }

    fn between(&mut self, millis: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(millis))
    }

    fn gap(&mut self) -> Duration {
        match self.pace {
            Pace::Quick => self.between(200..=500),
            Pace::Steady => self.between(700..=2_000),
        }
    }

    fn lasts(&mut self, kind: Kind) -> Duration {
        let steady = self.pace == Pace::Steady;
        self.between(match kind {
            // Until another one takes over, or until the server is started again.
            Kind::Failover | Kind::KillPostmaster | Kind::RestartSmart => 200..=1_200,
            Kind::RestartFast | Kind::RestartImmediate => 0..=500,
            Kind::StopInstance | Kind::StopBackend if steady => 100..=3_000,
            Kind::StopInstance | Kind::StopBackend => 100..=1_000,
            Kind::FreezeInstance if steady => 7_000..=9_000,
            Kind::FreezeInstance => 2_000..=3_000,
            Kind::FreezeBackend => 15_000..=20_000,
            Kind::ForeignSnapshot => 3_600_000..=3_600_000,
            Kind::ForeignLock if steady => 500..=8_000,
            Kind::ForeignLock => 500..=1_500,
            Kind::DiskFull | Kind::ConnectionsExhausted if steady => 1_000..=3_000,
            Kind::DiskFull | Kind::ConnectionsExhausted => 700..=1_500,
            Kind::ClockBack => 2_000..=6_000,
            Kind::Database(Network::Stall | Network::OneWay)
            | Kind::Client(Network::Stall | Network::OneWay)
                if steady =>
            {
                100..=4_000
            }
            Kind::Database(_) | Kind::Client(_) => 100..=1_000,
            _ => 0..=0,
        })
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        let kind = self.kind()?;
        let gap = self.gap();
        let lasts = self.lasts(kind);
        // Drawn for each kind, so that what follows does not depend on it.
        let by_chance = self.rng.u8(0..5) == 0;
        let draw = self.rng.u32(..);
        // The next failover needs the standby that is made after this one.
        let overlaps = kind.is_long() || (by_chance && kind != Kind::Failover);
        Some(Fault { kind, gap, lasts, overlaps, draw })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::faults::kind::Sort;

    const FIRST: [Kind; 2] = [Kind::Failover, Kind::KillInstance];

    fn faults(seed: u64, count: usize) -> Vec<Fault> {
        let kinds: Vec<_> = Kind::all().filter(|kind| kind.fits(Sort::Standby)).collect();
        Schedule::new(seed, &kinds, &FIRST, Pace::Steady).take(count).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
        assert_eq!(faults(7, 200), faults(7, 200));
        assert_ne!(faults(7, 200), faults(8, 200));
    }

    #[test]
    fn every_kind_comes_once_before_any_comes_again_and_some_come_first() {
        let kinds = Kind::all().filter(|kind| kind.fits(Sort::Standby)).count();
        let mut seen: Vec<_> = faults(7, kinds).iter().map(|fault| fault.kind).collect();
        assert!(FIRST.iter().all(|kind| seen[..2].contains(kind)), "{seen:?}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), kinds);
    }

    #[test]
    fn a_round_with_a_foreign_snapshot_never_restarts_the_server() {
        assert!(!Kind::KillPostmaster.fits(Sort::Snapshot));
        assert!(Kind::ForeignSnapshot.fits(Sort::Snapshot));
        assert!(Kind::TerminateBackends.fits(Sort::Snapshot));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own_and_is_found_by_it() {
        for kind in Kind::all() {
            assert_eq!(Kind::named(&kind.to_string()), Some(kind));
        }
        assert_eq!(Kind::named("kill"), None);
    }
}
