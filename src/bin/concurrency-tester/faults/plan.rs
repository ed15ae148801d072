//! Which rounds a run has.

use std::time::Duration;

use fastrand::Rng;

use super::flags::{FaultsPlan, Length};
use super::kind::{Kind, Sort};
use super::stage;

/// Without `--only`, the order of the rounds.
const SORTS: [Sort; 5] = [Sort::Plain, Sort::SmallDisk, Sort::Clock, Sort::Standby, Sort::Snapshot];

/// How long a round lasts at most, when a run has all sorts of them.
const ROUND_MAX: Duration = Duration::from_secs(150);

/// Few rounds can make these, so that they make each three times as often as any other.
const OFTEN: [Kind; 3] = [Kind::DiskFull, Kind::ClockBack, Kind::Failover];

/// Of a quick run.
const QUICK_LASTS: Duration = Duration::from_secs(38);
const QUICK_STANDBY_LASTS: Duration = Duration::from_secs(10);

/// A round to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coming {
    pub(crate) sort: Sort,
    pub(crate) kinds: Vec<Kind>,
    /// Those that come first, so that the run has every kind even if no round has time for all.
    pub(crate) first: Vec<Kind>,
    pub(crate) lasts: Duration,
}

/// A kind that cannot be made here, and why.
pub(crate) type NotRun = (Kind, &'static str);

/// The rounds of a run, and what it leaves out although it was meant.
pub(crate) fn rounds(plan: &FaultsPlan) -> (Vec<Coming>, Vec<NotRun>) {
    rounds_where(plan, stage::obstacle)
}

fn rounds_where(
    plan: &FaultsPlan,
    obstacle: impl Fn(Kind) -> Option<&'static str>,
) -> (Vec<Coming>, Vec<NotRun>) {
    let meant = |kind: &Kind| match plan.only.is_empty() {
        // These take their time.
        true => {
            plan.length != Length::Quick || !matches!(kind.home(), Sort::Clock | Sort::Snapshot)
        }
        false => plan.only.contains(kind),
    };
    let not_run: Vec<_> =
        Kind::all().filter(meant).filter_map(|kind| Some((kind, obstacle(kind)?))).collect();
    let kinds: Vec<_> =
        Kind::all().filter(meant).filter(|kind| obstacle(*kind).is_none()).collect();
    let mut sorts: Vec<_> = SORTS.to_vec();
    sorts.retain(|sort| kinds.iter().any(|kind| kind.home() == *sort));
    // All that a plain round can do, one on a small disk can do as well.
    if plan.length == Length::Quick && sorts.contains(&Sort::SmallDisk) {
        sorts.retain(|sort| *sort != Sort::Plain);
    }
    let coming = |sort: Sort, lasts: Duration| {
        let fitting = || kinds.iter().copied().filter(|kind| kind.fits(sort));
        let own = || fitting().filter(|kind| OFTEN.contains(kind));
        let kinds = fitting().chain(own()).chain(own()).collect();
        Coming { sort, kinds, first: Vec::new(), lasts }
    };
    let mut rounds = match plan.length {
        Length::Quick => {
            let lasts = |sort| match sort {
                Sort::Standby => QUICK_STANDBY_LASTS,
                _ => QUICK_LASTS,
            };
            sorts.into_iter().map(|sort| coming(sort, lasts(sort))).collect()
        }
        Length::Lasting(length) => lasting(&sorts, length, coming),
    };
    share_out(&mut rounds, kinds, plan.seed);
    (rounds, not_run)
}

/// Each kind comes first in one round: where it has its home, or else in that which has fewest.
fn share_out(rounds: &mut [Coming], mut kinds: Vec<Kind>, seed: u64) {
    Rng::with_seed(seed).shuffle(&mut kinds);
    // Those that fit few rounds choose before those that fit all.
    kinds.sort_by_key(|kind| rounds.iter().filter(|round| round.kinds.contains(kind)).count());
    for kind in kinds {
        let fitting = rounds.iter_mut().filter(|round| round.kinds.contains(&kind));
        if let Some(round) = fitting.min_by_key(|round| round.first.len()) {
            round.first.push(kind);
        }
    }
}

/// Equal rounds, as many as are needed for none to last too long; each sort as often as any other, or once
/// more.
fn lasting(
    sorts: &[Sort],
    length: Duration,
    coming: impl Fn(Sort, Duration) -> Coming,
) -> Vec<Coming> {
    let needed = length.as_secs().div_ceil(ROUND_MAX.as_secs());
    let count = usize::try_from(needed).unwrap_or(usize::MAX).max(sorts.len());
    let lasts = length / u32::try_from(count).unwrap_or(u32::MAX);
    sorts.iter().cycle().take(count).map(|sort| coming(*sort, lasts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(length: Length, only: &[Kind]) -> FaultsPlan {
        FaultsPlan {
            length,
            seed: 7,
            only: only.to_vec(),
            per_second: 1,
            report: None,
            keep: false,
        }
    }

    fn sorts(rounds: &[Coming]) -> Vec<Sort> {
        rounds.iter().map(|round| round.sort).collect()
    }

    #[test]
    fn every_kind_comes_first_in_one_round() {
        let long = Length::Lasting(Duration::from_secs(600));
        let (rounds, not_run) = rounds_where(&plan(long, &[]), |_| None);
        assert_eq!(sorts(&rounds), SORTS);
        assert!(rounds.iter().all(|round| round.lasts == Duration::from_secs(120)));
        let mut first: Vec<_> = rounds.iter().flat_map(|round| round.first.clone()).collect();
        first.sort_unstable();
        assert!(first.iter().copied().eq(Kind::all()), "{first:?}");
        assert!(not_run.is_empty());
    }

    #[test]
    fn a_long_run_has_many_rounds() {
        let length = Duration::from_secs(1_800);
        let (rounds, _) = rounds_where(&plan(Length::Lasting(length), &[]), |_| None);
        assert_eq!(rounds.len(), 12);
        assert_eq!(rounds.iter().map(|round| round.lasts).sum::<Duration>(), length);
    }

    #[test]
    fn a_quick_run_has_more_than_twenty_kinds_in_two_rounds() {
        let (rounds, _) = rounds_where(&plan(Length::Quick, &[]), |_| None);
        assert_eq!(sorts(&rounds), [Sort::SmallDisk, Sort::Standby]);
        assert!(rounds[0].kinds.len() > 20);
    }

    #[test]
    fn what_cannot_be_made_here_is_said_and_the_rest_is_run() {
        let obstacle = |kind| (kind == Kind::DiskFull).then_some("no root");
        let (rounds, not_run) = rounds_where(&plan(Length::Quick, &[]), obstacle);
        assert_eq!(not_run, [(Kind::DiskFull, "no root")]);
        assert_eq!(sorts(&rounds), [Sort::Plain, Sort::Standby]);
        let only = plan(Length::Quick, &[Kind::ClockBack, Kind::DiskFull]);
        let (rounds, not_run) = rounds_where(&only, obstacle);
        assert_eq!((sorts(&rounds), not_run.len()), (vec![Sort::Clock], 1));
    }
}
