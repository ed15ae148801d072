//! One batch, from the queue to everybody's answer.
//!
//! The batch is a stack of jobs. Each step sends one job, answers whoever it can, and leaves the rest
//! as further jobs: those who must be decided one by one, the halves of a job that was rejected.

use std::collections::HashMap;

use super::courier::{Couriers, Outbox};
use super::fold::{self, Plan, Verdict};
use super::lane::{Answer, Waiting};
use super::link::{Link, Lost};
use super::statement::{Part, Reply};
use crate::balance::{Balance, Change, ChangeError, Decision, Outcome, UserId};
use crate::metrics::LaneTally;
use crate::store::error::{Sent, change_error, sqlstate};
use crate::store::idempotency::{self, Prior};

/// A user whose plan lost this many races against other processes is locked first.
const RACES_MAX: u32 = 3;

/// How often a job is sent again before what the database says counts.
const TRIES_MAX: u32 = 10;

/// One user's changes in a job, in order of arrival, and what is planned for them.
struct Group {
    user: UserId,
    waiting: Vec<Waiting>,
    plan: Plan,
}

/// Users in order of their ids, who are sent together.
struct Job {
    groups: Vec<Group>,
    /// How often it was sent already.
    tries: u32,
    /// How often its plans, made on a balance that was read, came too late.
    races: u32,
}

impl Job {
    /// How many there are in it.
    fn changes(&self) -> u64 {
        self.groups.iter().map(|group| group.waiting.len() as u64).sum()
    }

    /// The only change in it, where it has no key.
    fn lone_change(&self) -> Option<&Change> {
        let [Group { waiting, .. }] = self.groups.as_slice() else { return None };
        let [Waiting { change, .. }] = waiting.as_slice() else { return None };
        Some(change).filter(|change| change.key.is_none())
    }
}

/// Decides on all of it, and answers everybody as soon as it can.
pub(super) async fn settle(
    link: &mut Link,
    couriers: &Couriers,
    tally: &LaneTally,
    taken: Vec<Waiting>,
) {
    let mut out = Outbox::default();
    let users = fold::by_user(taken, |waiting| waiting.change.user);
    let groups = users.into_iter().map(|(user, waiting)| Group::new(user, waiting)).collect();
    let mut jobs = vec![Job { groups, tries: 0, races: 0 }];
    while let Some(job) = jobs.pop() {
        let (tries, races) = (job.tries, job.races);
        let mut left = Vec::new();
        if job.races > RACES_MAX {
            for group in job.groups {
                left.extend(step_locked(link, &mut out, group, tries).await);
                out.empty(couriers);
            }
        } else if !job.groups.is_empty() {
            left = step(link, &mut out, job).await;
            out.empty(couriers);
        }
        let again = left.iter().filter(|job| job.tries > tries || job.races > races);
        tally.tries_repeated.inc_by(again.map(Job::changes).sum());
        jobs.extend(left);
    }
}

impl Group {
    fn new(user: UserId, waiting: Vec<Waiting>) -> Self {
        // Where no balance could take it all, a guard that never holds makes the statement only
        // read, and then it is decided one by one.
        let plan = fold::whole(waiting.iter().map(|waiting| &waiting.change));
        Self { user, plan: plan.unwrap_or_else(|| Plan::reading(waiting.len())), waiting }
    }

    fn changes(&self) -> Vec<&Change> {
        self.waiting.iter().map(|waiting| &waiting.change).collect()
    }

    fn part(&self) -> Part<'_> {
        Part { user: self.user, plan: &self.plan, changes: self.changes() }
    }

    /// The plan was carried out on this balance, or there was nothing to carry out.
    fn answer(self, out: &mut Outbox, before: Balance) {
        let outcome = |verdict: Verdict| -> Answer {
            match verdict {
                Verdict::Accepted { running } => {
                    Ok(Outcome::fresh(Decision::Accepted(before + running)))
                }
                Verdict::Refused => Ok(Outcome::fresh(Decision::Refused)),
                Verdict::KeyReused => Err(ChangeError::KeyReused),
                Verdict::OutOfRange => Err(ChangeError::BalanceOutOfRange),
                Verdict::Copy { .. } => unreachable_copy(),
            }
        };
        for (verdict, waiting) in self.plan.verdicts.iter().zip(self.waiting) {
            waiting.answer(
                out,
                match verdict {
                    // The original is never a copy itself.
                    Verdict::Copy { of } => outcome(self.plan.verdicts[*of])
                        .map(|original| Outcome { replayed: true, ..original }),
                    verdict => outcome(*verdict),
                },
            );
        }
    }

    fn answer_unknown_user(self, out: &mut Outbox) {
        for waiting in self.waiting {
            waiting.answer(out, Err(ChangeError::UserNotFound));
        }
    }
}

fn unreachable_copy() -> Answer {
    Err(ChangeError::Internal("a copy of a copy in a batch".into()))
}

async fn step(link: &mut Link, out: &mut Outbox, job: Job) -> Vec<Job> {
    if let Some(change) = job.lone_change() {
        return match link.send_alone(change).await {
            Ok(decided) => {
                for one in job.groups.into_iter().flat_map(|group| group.waiting) {
                    let answer = decided.map(Outcome::fresh).ok_or(ChangeError::UserNotFound);
                    one.answer(out, answer);
                }
                Vec::new()
            }
            Err(lost) => after_loss(out, job, lost),
        };
    }
    let parts: Vec<Part<'_>> = job.groups.iter().map(Group::part).collect();
    let result = link.send(&parts).await;
    drop(parts);
    match result {
        Ok(replies) => after_replies(out, job, replies),
        Err(lost) => after_loss(out, job, lost),
    }
}

/// A user who lost too many races: nobody can come between with the row locked.
async fn step_locked(link: &mut Link, out: &mut Outbox, mut group: Group, tries: u32) -> Vec<Job> {
    match link.send_locked(group.user, group.changes()).await {
        Ok(None) => group.answer_unknown_user(out),
        Ok(Some(locked)) => {
            let used = used_keys(&locked.replies);
            if !used.is_empty() {
                return without_used(out, vec![group], &used, tries);
            }
            group.plan = locked.plan;
            group.answer(out, locked.before);
        }
        Err(lost) => return after_loss(out, Job { groups: vec![group], tries, races: 0 }, lost),
    }
    Vec::new()
}

/// The database has done what it could; who is left?
fn after_replies(out: &mut Outbox, job: Job, replies: Vec<Reply>) -> Vec<Job> {
    let used = used_keys(&replies);
    if !used.is_empty() {
        return without_used(out, job.groups, &used, job.tries);
    }
    let mut moved = HashMap::new();
    let mut stood = HashMap::new();
    for reply in replies {
        match reply {
            Reply::Moved { user, before } => drop(moved.insert(user, before)),
            Reply::Stood { user, balance, version } => drop(stood.insert(user, (balance, version))),
            Reply::Used { .. } => {}
        }
    }
    let mut left = Vec::new();
    let mut raced = false;
    for mut group in job.groups {
        let user = group.user.get();
        if let Some(before) = moved.get(&user) {
            group.answer(out, *before);
        } else if let Some((balance, version)) = stood.get(&user) {
            raced |= matches!(group.plan.guard, fold::Guard::Version(_));
            group.plan =
                fold::each(*balance, *version, group.waiting.iter().map(|waiting| &waiting.change));
            if group.plan.writes(&group.changes()) {
                left.push(group);
            } else {
                group.answer(out, *balance);
            }
        } else {
            group.answer_unknown_user(out);
        }
    }
    vec![Job { groups: left, tries: job.tries, races: job.races + u32::from(raced) }]
}

type UsedKeys = HashMap<(i64, String), Prior>;

fn used_keys(replies: &[Reply]) -> UsedKeys {
    let used = replies.iter().filter_map(|reply| match reply {
        Reply::Used { user, key, prior } => Some(((*user, key.clone()), *prior)),
        Reply::Moved { .. } | Reply::Stood { .. } => None,
    });
    used.collect()
}

/// Answers whose keys were used before; the others are sent again, since nothing was done for them.
fn without_used(out: &mut Outbox, groups: Vec<Group>, used: &UsedKeys, tries: u32) -> Vec<Job> {
    let mut left = Vec::new();
    for group in groups {
        let mut waiting = Vec::new();
        for one in group.waiting {
            let key =
                one.change.key.as_ref().map(|key| (group.user.get(), key.as_str().to_owned()));
            match key.and_then(|key| used.get(&key)) {
                Some(prior) => {
                    let answer = prior.replay(one.change.amount);
                    one.answer(out, answer);
                }
                None => waiting.push(one),
            }
        }
        if !waiting.is_empty() {
            left.push(Group::new(group.user, waiting));
        }
    }
    vec![Job { groups: left, tries, races: 0 }]
}

fn after_loss(out: &mut Outbox, job: Job, lost: Lost) -> Vec<Job> {
    let again = job.tries < TRIES_MAX;
    match lost {
        Lost::NotSent(_) if again => vec![Job { tries: job.tries + 1, ..job }],
        Lost::NotSent(error) | Lost::Unreachable(error) => {
            fail(out, job.groups, &error);
            Vec::new()
        }
        Lost::Unanswered(error) => after_silence(out, job, &error, again),
        Lost::Rejected(error) if again && is_race(&error) => {
            vec![Job { tries: job.tries + 1, ..job }]
        }
        Lost::Rejected(error) => split(out, job, error),
    }
}

/// Another process used the same key, or locked in another order, at the same moment.
fn is_race(error: &sqlx::Error) -> bool {
    idempotency::is_conflict(error) || matches!(sqlstate(error).as_deref(), Some("40P01" | "40001"))
}

/// Nobody knows whether the batch happened. With a key it may be sent again, and then it is known.
fn after_silence(out: &mut Outbox, job: Job, error: &ChangeError, again: bool) -> Vec<Job> {
    let mut left = Vec::new();
    for group in job.groups {
        let (mut keyed, lost): (Vec<_>, Vec<_>) =
            group.waiting.into_iter().partition(|one| again && one.change.key.is_some());
        for one in lost {
            one.answer(out, Err(ChangeError::OutcomeUnknown(error.to_string().into())));
        }
        for one in &mut keyed {
            one.maybe_applied = true;
        }
        if !keyed.is_empty() {
            left.push(Group::new(group.user, keyed));
        }
    }
    vec![Job { groups: left, tries: job.tries + 1, races: 0 }]
}

fn fail(out: &mut Outbox, groups: Vec<Group>, error: &ChangeError) {
    for one in groups.into_iter().flat_map(|group| group.waiting) {
        let cause = error.to_string().into();
        let answer = if one.maybe_applied {
            ChangeError::OutcomeUnknown(cause)
        } else {
            ChangeError::NotApplied(cause)
        };
        one.answer(out, Err(answer));
    }
}

/// Halves a job until the change that the database objects to stands alone.
fn split(out: &mut Outbox, mut job: Job, error: sqlx::Error) -> Vec<Job> {
    let job_of = |groups| Job { groups, tries: 0, races: 0 };
    if job.groups.len() > 1 {
        let second = job.groups.split_off(job.groups.len() / 2);
        // The stack is emptied from its end.
        return vec![job_of(second), job_of(job.groups)];
    }
    let Some(mut group) = job.groups.pop() else { return Vec::new() };
    if group.waiting.len() > 1 {
        let second = group.waiting.split_off(group.waiting.len() / 2);
        let halves = [second, group.waiting];
        return halves.map(|half| job_of(vec![Group::new(group.user, half)])).into();
    }
    if let Some(one) = group.waiting.pop() {
        one.answer(out, Err(change_error(error, Sent::NothingFinal)));
    }
    Vec::new()
}
