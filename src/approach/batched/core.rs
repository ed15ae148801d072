//! The decisions about batches: a state machine without I/O.
//!
//! [`Core::next`] returns the next step. [`Core::on`] takes the response of the database and decides
//! which callers get which answers. A [`lane`](crate::queue::lane) connects it to a queue, and
//! `engine.rs` to a session. A
//! simulated database (`simulation/`) tests it under every failure at every point.
//!
//! # How a change passes through
//! It arrives, and joins a batch with everything else in the queue. The batch is a stack of jobs. Each
//! step sends one job, answers the callers it can, and pushes the rest as further jobs: users who must
//! be decided one by one, or the halves of a job whose data the database rejects.
//!
//! A user whose changes do not all fit, and who has holds whose time is over, is taken out of the batch:
//! the holds are released, and then the changes are planned anew.
//!
//! # Failures
//! - *Data* (classes 22 and 23): the job is halved until the rejected change is alone. No other failure
//!   is worth halving: the halves would fail the same way and multiply the wait.
//! - *A lost race*, or a session that broke before the job was sent: the job is sent again; after
//!   [`ATTEMPTS_MAX`] attempts each of its users is sent alone, after a pause.
//! - *A row that stayed locked*: a probe finds the held users. They are *parked*: they leave the lane,
//!   and the others continue without them. If no row is held, all users of the job are parked.
//! - *Unknown*: a change without a key is answered "outcome unknown". One with a key is sent again,
//!   because the key makes that safe. From then on only its key proves an outcome: see
//!   [`Core::conclude`], the one place that decides this.
//! - *Every other failure* is the answer to the whole job.
//!
//! # Parked users
//! Their changes wait in order of arrival and hold nothing. Each waits for at most [`WAIT_MAX`] from
//! its own first failure. Later changes of a parked user join them, so none overtakes another. A row
//! that is locked but has changed since the last probe is not held: it only changes hands all the
//! time. It is locked first, with a longer wait, and then the change cannot lose a race.

#[cfg(test)]
mod parking;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::fold::{self, Guard, Plan, Planned};
use super::statement::{Part, Reply};
use crate::approach::guarded_update::Updated;
use crate::ledger::{Balance, Change, ChangeError, Decision, Outcome, UserId};
use crate::queue::lane::{Step, Time};
use crate::store::error::Failure;
use crate::store::held::{PROBE_FIRST, PROBE_INTERVAL, PROBE_ROWS_MAX, Probed, WAIT_MAX};
use crate::store::keys::Stored;
use crate::store::share::share_of;

/// The most changes in one batch. A larger one would not be faster: the commit is already a small part
/// of the cost of so many rows, and each caller waits for the whole batch.
pub(super) const CHANGES_MAX: usize = 2_048;

/// A user whose plan lost this many races against other processes is locked first.
const RACES_MAX: u32 = 3;

/// How often a whole job is sent again. More failures mean a problem with one user or with the
/// database, so each user is then sent alone, after pauses.
const ATTEMPTS_MAX: u32 = 3;

/// The pause before a user is sent alone.
const PAUSE: Duration = Duration::from_millis(50);

/// The answer to one caller.
pub(in crate::approach) type Answer = Result<Outcome, ChangeError>;

/// A request to the database.
pub(super) enum Request<'a> {
    /// One change without a key, with the statement of `self`.
    Alone(&'a Change),
    /// A batch in one statement.
    Batch(Vec<Part<'a>>),
    /// One user: the row is locked first, then the changes are decided one by one.
    Locked { user: UserId, changes: Vec<&'a Change> },
    /// Release the user's holds whose time is over.
    ReleaseHolds(UserId),
    /// Which of these rows are locked?
    Probe(&'a [UserId]),
}

/// The response to the request of the same name.
pub(super) enum Response {
    Alone(Updated),
    Batch(Vec<Reply>),
    Locked(LockedReply),
    ReleaseHolds,
    Probe(Vec<Probed>),
}

/// The response for a user whose row was to be locked first.
pub(super) enum LockedReply {
    Decided(Locked),
    /// Some changes would be refused, but expired holds have to be released first. Nothing was written.
    HoldsExpired,
    /// There is no such user.
    NoUser,
}

/// The response for a user whose row was locked first.
pub(super) struct Locked {
    /// The balance under the lock.
    pub(super) before: Balance,
    /// What was decided on it.
    pub(super) plan: Plan,
    /// The replies of the statement; none where there was nothing to write.
    pub(super) replies: Vec<Reply>,
}

/// The state of a lane. `C` identifies a caller.
pub(super) struct Core<C> {
    arrived: VecDeque<Waiting<C>>,
    /// The rest of the last batch: a stack.
    jobs: Vec<Job<C>>,
    /// A job that ran into a lock: its users are probed next.
    blocked: Option<Job<C>>,
    parked: BTreeMap<UserId, Parked<C>>,
    /// How many changes are parked, and how many may be.
    parked_count: usize,
    parked_max: usize,
    sent: Option<Task<C>>,
    answers: Vec<(C, Answer)>,
    /// Changes that were sent again since the last [`take_retries`](Self::take_retries).
    retries: u64,
    /// Parked users alternate with the queue, and so do probes.
    parked_sent_last: bool,
    probed_last: bool,
    is_stopping: bool,
}

/// A change in the lane, and its caller.
struct Waiting<C> {
    change: Change,
    caller: C,
    /// The outcome of an earlier statement with it is unknown: it may be applied.
    maybe_applied: bool,
    /// Set by its first failure. No further attempt begins after it.
    deadline: Option<Time>,
}

/// One user's changes in a job, in order of arrival, and the plan for them.
struct Group<C> {
    user: UserId,
    waiting: Vec<Waiting<C>>,
    plan: Plan,
}

/// Users who are sent together, in order of their ids.
struct Job<C> {
    groups: Vec<Group<C>>,
    /// How often it was sent again after a failure.
    attempts: u32,
    /// How often its plans, made on a balance that was read, came too late.
    races: u32,
    /// How often it ran into a lock and its users were probed.
    probes: u32,
    /// Locks the row before deciding, so no other change comes in between. For one user only.
    locks_first: bool,
    /// Releases the user's expired holds before anything else. For one user only.
    releases_first: bool,
}

/// What was sent to the database.
enum Task<C> {
    Job(Job<C>),
    /// A probe of these users: those of a job that ran into a lock, or parked ones.
    Probe {
        users: Vec<UserId>,
        job: Option<Job<C>>,
    },
}

/// A user whose changes wait outside the batches.
struct Parked<C> {
    waiting: VecDeque<Waiting<C>>,
    state: ParkedState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParkedState {
    /// The row is locked, and probed at this time. `version` is that of the last probe.
    Locked { probe_at: Time, version: Option<i64> },
    /// A pause lasts until this time.
    Paused { until: Time },
    /// The user can be sent. `locks_first` where the row keeps changing hands.
    Ready { locks_first: bool },
}

impl<C> Core<C> {
    /// An idle core. At most `parked_max` changes are parked, and of one user a share of them; more are
    /// refused.
    pub(super) fn new(parked_max: usize) -> Self {
        Self {
            arrived: VecDeque::new(),
            jobs: Vec::new(),
            blocked: None,
            parked: BTreeMap::new(),
            parked_count: 0,
            parked_max,
            sent: None,
            answers: Vec::new(),
            retries: 0,
            parked_sent_last: false,
            probed_last: false,
            is_stopping: false,
        }
    }

    /// Appends a change to the queue.
    pub(super) fn arrive(&mut self, change: Change, caller: C) {
        self.arrived.push_back(Waiting { change, caller, maybe_applied: false, deadline: None });
    }

    /// How many more changes the next batch can take.
    pub(super) fn room(&self) -> usize {
        CHANGES_MAX.saturating_sub(self.arrived.len())
    }

    /// How many changes wait for the next batch.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// Parked changes are no longer waited for: the next step answers them.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// The new answers since the last call. Each caller is answered once.
    pub(super) fn take_answers(&mut self) -> std::vec::Drain<'_, (C, Answer)> {
        self.answers.drain(..)
    }

    /// How many changes were sent again since the last call.
    pub(super) fn take_retries(&mut self) -> u64 {
        std::mem::take(&mut self.retries)
    }

    /// The next step. [`on`](Self::on) must follow a [`Step::Send`].
    pub(super) fn next(&mut self, now: Time) -> Step {
        debug_assert!(self.sent.is_none(), "one request at a time");
        self.time_out(now);
        let (accepted, task) = self.next_task(now);
        self.sent = task;
        match self.sent {
            Some(_) => Step::Send { accepted },
            None => Step::Wait { until: self.wakes_at() },
        }
    }

    /// The request of the last [`Step::Send`].
    pub(super) fn request(&self) -> Option<Request<'_>> {
        Some(match self.sent.as_ref()? {
            Task::Probe { users, .. } => Request::Probe(users),
            Task::Job(job) => job.request(),
        })
    }

    /// Takes the result of the last [`request`](Self::request).
    ///
    /// # Panics
    /// Without a request, or with a response to another one.
    pub(super) fn on(&mut self, now: Time, result: Result<Response, Failure>) {
        match (self.sent.take().expect("a result follows a request"), result) {
            (Task::Job(job), Ok(Response::Alone(Updated::Decided(decision)))) => {
                self.conclude_all(job.groups, &Ok(Outcome::fresh(decision)));
            }
            (
                Task::Job(job),
                Ok(Response::Alone(Updated::NoUser) | Response::Locked(LockedReply::NoUser)),
            ) => {
                self.conclude_all(job.groups, &Err(ChangeError::UserNotFound));
            }
            (
                Task::Job(job),
                Ok(
                    Response::Alone(Updated::HoldsExpired)
                    | Response::Locked(LockedReply::HoldsExpired),
                ),
            ) => self.release_first(now, job.groups, job.attempts),
            (Task::Job(job), Ok(Response::ReleaseHolds)) => {
                self.push(Job { releases_first: false, ..job });
            }
            (Task::Job(job), Ok(Response::Batch(replies))) => self.on_batch(now, job, replies),
            (Task::Job(job), Ok(Response::Locked(LockedReply::Decided(locked)))) => {
                self.on_locked(now, job, locked);
            }
            (Task::Job(job), Err(failure)) => self.on_failure(now, job, failure),
            (Task::Probe { job: Some(job), .. }, Ok(Response::Probe(rows))) => {
                self.on_probed_job(now, job, &rows);
            }
            (Task::Probe { users, job: None }, Ok(Response::Probe(rows))) => {
                self.on_probed_parked(now, &users, &rows);
            }
            (Task::Probe { users, job }, Err(failure)) => {
                self.on_failed_probe(now, &users, job, failure);
            }
            (Task::Job(_), Ok(Response::Probe(_))) | (Task::Probe { .. }, Ok(_)) => {
                unreachable!("a response to another request")
            }
        }
    }

    /// The one place where a change leaves the lane. One that may be applied is never "not applied"
    /// before its key proves it.
    fn conclude(&mut self, one: Waiting<C>, answer: Answer) {
        let answer = match answer {
            // It writes nothing, so nothing about it is unknown.
            Err(ChangeError::OutcomeUnknown(cause)) if one.change.only_reads() => {
                Err(ChangeError::NotApplied(cause))
            }
            Err(error) if one.maybe_applied => Err(error.after_an_unknown_attempt()),
            answer => answer,
        };
        self.answers.push((one.caller, answer));
    }

    fn conclude_all(&mut self, groups: Vec<Group<C>>, answer: &Answer) {
        for one in groups.into_iter().flat_map(|group| group.waiting) {
            self.conclude(one, answer.clone());
        }
    }

    /// Concludes a group whose plan was carried out on this balance, or had nothing to carry out.
    fn conclude_group(&mut self, group: Group<C>, before: Balance) {
        let planned = group.plan.changes;
        for (own, one) in planned.iter().zip(group.waiting) {
            let (planned, replayed) = match own {
                Planned::Copy { of } => (&planned[*of], true),
                own => (own, false),
            };
            let decision = match planned {
                Planned::Accepted { running } | Planned::Read { running } => {
                    Ok(Decision::Accepted(before + running))
                }
                Planned::Refused => Ok(Decision::Refused),
                Planned::KeyReused => Err(ChangeError::KeyReused),
                Planned::OutOfRange => Err(ChangeError::BalanceOutOfRange),
                Planned::Copy { .. } => unreachable!("an original is not a copy"),
            };
            self.conclude(one, decision.map(|decision| Outcome { decision, replayed }));
        }
    }

    /// The next task to send, and how many changes left the queue for it.
    fn next_task(&mut self, now: Time) -> (usize, Option<Task<C>>) {
        let may_probe = !self.probed_last || self.arrived.is_empty();
        self.probed_last = false;
        if let Some(job) = self.blocked.take() {
            let users = job.groups.iter().map(|group| group.user).collect();
            return (0, Some(Task::Probe { users, job: Some(job) }));
        }
        if let Some(job) = self.pop(now) {
            return (0, Some(Task::Job(job)));
        }
        if may_probe && let Some(users) = self.due_probe(now) {
            self.probed_last = true;
            return (0, Some(Task::Probe { users, job: None }));
        }
        if !self.parked_sent_last
            && let Some(job) = self.due_parked(now)
        {
            self.parked_sent_last = true;
            return (0, Some(Task::Job(job)));
        }
        self.parked_sent_last = false;
        let (accepted, batch) = self.take_batch(now);
        let job = batch.or_else(|| self.due_parked(now));
        (accepted, job.map(Task::Job))
    }

    /// The next job of the batch, without changes whose deadline has passed.
    fn pop(&mut self, now: Time) -> Option<Job<C>> {
        while let Some(job) = self.jobs.pop() {
            let late = ChangeError::NotApplied("the batch did not get its locks in time".into());
            let job = self.retain(job, |one| !one.is_overdue(now), &late);
            if !job.groups.is_empty() {
                return Some(job);
            }
        }
        None
    }

    fn push(&mut self, job: Job<C>) {
        if !job.groups.is_empty() {
            self.jobs.push(job);
        }
    }

    /// Forms a batch of the queue. Returns how many changes it took.
    fn take_batch(&mut self, now: Time) -> (usize, Option<Job<C>>) {
        let count = self.arrived.len().min(CHANGES_MAX);
        let batch: Vec<Waiting<C>> = self.arrived.drain(..count).collect();
        let mut groups = Vec::new();
        for (user, waiting) in fold::by_user(batch, |one| one.change.user) {
            if self.parked.contains_key(&user) {
                self.join_parked(now, user, waiting);
            } else {
                groups.push(Group::new(user, waiting));
            }
        }
        (count, (!groups.is_empty()).then(|| Job::new(groups, 0)))
    }

    /// Queues changes behind the parked ones of their user, which counts as their first failure.
    fn join_parked(&mut self, now: Time, user: UserId, mut waiting: Vec<Waiting<C>>) {
        let of_user = self.parked.get(&user).map_or(0, |parked| parked.waiting.len());
        let of_share = share_of(self.parked_max).saturating_sub(of_user);
        let of_all = self.parked_max.saturating_sub(self.parked_count);
        for one in waiting.drain(of_share.min(of_all).min(waiting.len())..) {
            self.conclude(one, Err(ChangeError::Busy("too many changes wait for the user's row")));
        }
        waiting.iter_mut().for_each(|one| one.deadline = Some(now + WAIT_MAX));
        if let Some(parked) = self.parked.get_mut(&user) {
            self.parked_count += waiting.len();
            parked.waiting.extend(waiting);
        }
    }

    /// Concludes the users that the statement has decided, and plans the others anew.
    fn on_batch(&mut self, now: Time, job: Job<C>, replies: Vec<Reply>) {
        let Some(job) = self.replay_stored(job, &replies) else { return };
        let mut applied = HashMap::new();
        let mut unchanged = HashMap::new();
        for reply in replies {
            match reply {
                Reply::Applied { user, before } => {
                    applied.insert(user, before);
                }
                Reply::Unchanged { user, funds, version, has_expired } => {
                    unchanged.insert(user, (funds, version, has_expired));
                }
                Reply::Replayed { .. } => {}
            }
        }
        let (mut left, mut expired) = (Vec::new(), Vec::new());
        let mut raced = false;
        for mut group in job.groups {
            let user = group.user.get();
            if let Some(before) = applied.get(&user) {
                self.conclude_group(group, *before);
            } else if let Some((funds, version, has_expired)) = unchanged.get(&user) {
                raced |= matches!(group.plan.guard, Guard::Version(_));
                group.plan = fold::each(*funds, *version, group.changes().into_iter());
                if *has_expired && group.plan.refuses() {
                    expired.push(group);
                } else if group.plan.writes(&group.changes()) {
                    left.push(group);
                } else {
                    self.conclude_group(group, funds.balance);
                }
            } else {
                self.conclude_all(vec![group], &Err(ChangeError::UserNotFound));
            }
        }
        if raced {
            self.count_retries(&left);
        }
        self.release_first(now, expired, job.attempts);
        let races = job.races + u32::from(raced);
        if races <= RACES_MAX {
            return self.push(Job { races, ..Job::new(left, job.attempts) });
        }
        for group in left {
            self.push(Job { locks_first: true, ..Job::new(vec![group], job.attempts) });
        }
    }

    /// Sends users whose expired holds have to be released first: their changes are planned anew after
    /// that, since there is more to spend then.
    fn release_first(&mut self, now: Time, groups: Vec<Group<C>>, attempts: u32) {
        for Group { user, waiting, .. } in groups {
            let mut job = Job::new(vec![Group::new(user, waiting)], attempts);
            job.releases_first = true;
            // Each round releases holds, but there may be many.
            job.set_deadlines(now);
            self.push(job);
        }
    }

    fn on_locked(&mut self, now: Time, job: Job<C>, locked: Locked) {
        let Locked { before, plan, replies } = locked;
        let Some(job) = self.replay_stored(job, &replies) else { return };
        let writes = job.groups.iter().any(|group| plan.writes(&group.changes()));
        if writes && !replies.iter().any(|reply| matches!(reply, Reply::Applied { .. })) {
            // Only a changed row proves that the plan was carried out.
            return self.on_failure(now, job, Failure::Race("nothing was applied".into()));
        }
        for mut group in job.groups {
            group.plan = plan.clone();
            self.conclude_group(group, before);
        }
    }

    /// Returns the job if none of its keys was used before. Otherwise nothing of it was applied: the
    /// changes with those keys are answered, and the others are sent again.
    fn replay_stored(&mut self, job: Job<C>, replies: &[Reply]) -> Option<Job<C>> {
        let stored: HashMap<(i64, &str), &Stored> = replies
            .iter()
            .filter_map(|reply| match reply {
                Reply::Replayed { user, key, stored } => Some(((*user, key.as_str()), stored)),
                Reply::Applied { .. } | Reply::Unchanged { .. } => None,
            })
            .collect();
        if stored.is_empty() {
            return Some(job);
        }
        let mut left = Vec::new();
        for group in job.groups {
            let mut waiting = Vec::new();
            for one in group.waiting {
                let key = one.change.key.as_ref().map(|key| (group.user.get(), key.as_str()));
                match key.and_then(|key| stored.get(&key)) {
                    Some(stored) => {
                        let answer = stored.replay(&one.change.fingerprint());
                        self.conclude(one, answer);
                    }
                    None => waiting.push(one),
                }
            }
            if !waiting.is_empty() {
                left.push(Group::new(group.user, waiting));
            }
        }
        self.push(Job::new(left, job.attempts));
        None
    }

    fn on_failure(&mut self, now: Time, mut job: Job<C>, failure: Failure) {
        match failure {
            // Only holds were sent. They are released once, however often that is attempted.
            Failure::Unknown(cause) if job.releases_first => {
                self.send_again(now, job, &ChangeError::NotApplied(cause));
            }
            Failure::HoldsExpired => self.release_first(now, job.groups, job.attempts),
            Failure::Data(error) => self.split(job, error),
            Failure::Locked(_) => {
                job.set_deadlines(now);
                self.blocked = Some(job);
            }
            Failure::Race(cause) | Failure::NotSent(cause) => {
                self.send_again(now, job, &ChangeError::NotApplied(cause));
            }
            Failure::Unknown(cause) => {
                let unknown = ChangeError::OutcomeUnknown(cause);
                job.waiting_mut().for_each(|one| one.maybe_applied = true);
                let job = self.retain(job, |one| one.change.key.is_some(), &unknown);
                self.send_again(now, job, &unknown);
            }
            Failure::Unreachable(cause) => {
                // Changes that were never sent need not wait for the database to come back. No other
                // job of this batch would succeed either.
                let not_applied = ChangeError::NotApplied(cause);
                let mut jobs = std::mem::take(&mut self.jobs);
                jobs.push(job);
                // From the bottom of the stack: each is parked in front of the later changes.
                for job in jobs {
                    let job = self.retain(job, |one| one.maybe_applied, &not_applied);
                    self.pause(now, job.groups);
                }
            }
            Failure::Final(error) => self.conclude_all(job.groups, &Err(error)),
        }
    }

    /// Retains the changes for which `stays` holds in the job, and concludes the others.
    fn retain(
        &mut self,
        job: Job<C>,
        stays: impl Fn(&Waiting<C>) -> bool,
        error: &ChangeError,
    ) -> Job<C> {
        if job.groups.iter().flat_map(|group| &group.waiting).all(&stays) {
            return job;
        }
        let mut groups = Vec::new();
        for group in job.groups {
            let (staying, leaving): (Vec<_>, Vec<_>) = group.waiting.into_iter().partition(&stays);
            for one in leaving {
                self.conclude(one, Err(error.clone()));
            }
            if !staying.is_empty() {
                groups.push(Group::new(group.user, staying));
            }
        }
        Job { groups, ..job }
    }

    /// Sends a job again as a whole, or after some attempts each of its users alone.
    fn send_again(&mut self, now: Time, mut job: Job<C>, error: &ChangeError) {
        job.set_deadlines(now);
        let job = self.retain(job, |one| !one.is_overdue(now), error);
        self.count_retries(&job.groups);
        if job.attempts < ATTEMPTS_MAX {
            self.push(Job { attempts: job.attempts + 1, ..job });
        } else {
            self.pause(now, job.groups);
        }
    }

    fn count_retries(&mut self, groups: &[Group<C>]) {
        self.retries += groups.iter().map(|group| group.waiting.len() as u64).sum::<u64>();
    }

    /// Halves a job whose data the database rejects; a change that is alone gets the error.
    fn split(&mut self, mut job: Job<C>, error: ChangeError) {
        let second = match job.groups.as_mut_slice() {
            [group] if group.waiting.len() > 1 => {
                let mut first = std::mem::take(&mut group.waiting);
                let second = first.split_off(first.len() / 2);
                *group = Group::new(group.user, first);
                vec![Group::new(group.user, second)]
            }
            [_] => return self.conclude_all(job.groups, &Err(error)),
            groups => {
                let half = groups.len() / 2;
                job.groups.split_off(half)
            }
        };
        // The top of the stack is sent first.
        self.push(Job::new(second, job.attempts));
        self.push(Job::new(job.groups, job.attempts));
    }

    /// Parks the held users of a job that ran into a lock, and sends the others again.
    fn on_probed_job(&mut self, now: Time, job: Job<C>, rows: &[Probed]) {
        let versions = held_rows(rows);
        let Job { groups, probes, .. } = job;
        let (held, free): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| versions.contains_key(&group.user.get()));
        let finds_held = !held.is_empty();
        for group in held {
            let version = versions.get(&group.user.get()).copied();
            self.park(now, group, ParkedState::Locked { probe_at: now + PROBE_FIRST, version });
        }
        self.count_retries(&free);
        if finds_held || probes == 0 {
            return self.push(Job { groups: free, probes: probes + 1, ..job });
        }
        // The job runs into a lock, but no row is locked: another session uses a key, say, or has
        // locked the table. So each user is sent alone, alternating with the queue.
        for group in free {
            let probe_at = now + PROBE_INTERVAL;
            self.park(now, group, ParkedState::Locked { probe_at, version: None });
        }
    }

    fn on_probed_parked(&mut self, now: Time, users: &[UserId], rows: &[Probed]) {
        let versions = held_rows(rows);
        for user in users {
            if let Some(parked) = self.parked.get_mut(user) {
                parked.state = parked.state.after_probe(now, versions.get(&user.get()).copied());
            }
        }
    }

    fn on_failed_probe(
        &mut self,
        now: Time,
        users: &[UserId],
        job: Option<Job<C>>,
        failure: Failure,
    ) {
        for user in users {
            if let Some(parked) = self.parked.get_mut(user) {
                let probe_at = now + PROBE_INTERVAL;
                parked.state = ParkedState::Locked { probe_at, version: None };
            }
        }
        let Some(job) = job else { return };
        match failure {
            // A probe applies nothing, so nothing is unknown.
            Failure::Unknown(cause) => self.on_failure(now, job, Failure::NotSent(cause)),
            // The whole table is locked, say. This is the same as a probe that finds no held row.
            Failure::Locked(_) => self.on_probed_job(now, job, &[]),
            failure => self.on_failure(now, job, failure),
        }
    }

    /// Parks a group in front of the later changes of its user. Where a job was halved, some of these
    /// may still be on the stack.
    fn park(&mut self, now: Time, group: Group<C>, state: ParkedState) {
        let Group { user, mut waiting, .. } = group;
        for job in self.jobs.iter_mut().rev() {
            let of_user = job.groups.extract_if(.., |group| group.user == user);
            waiting.extend(of_user.flat_map(|group| group.waiting));
        }
        self.jobs.retain(|job| !job.groups.is_empty());
        self.parked_count += waiting.len();
        let parked =
            self.parked.entry(user).or_insert_with(|| Parked { waiting: VecDeque::new(), state });
        parked.state = state;
        for mut one in waiting.into_iter().rev() {
            one.deadline.get_or_insert(now + WAIT_MAX);
            parked.waiting.push_front(one);
        }
    }

    fn pause(&mut self, now: Time, groups: Vec<Group<C>>) {
        for group in groups {
            self.park(now, group, ParkedState::Paused { until: now + PAUSE });
        }
    }

    /// Answers the parked changes whose deadline has passed.
    fn time_out(&mut self, now: Time) {
        if self.parked.is_empty() {
            return;
        }
        let mut timed_out = Vec::new();
        for parked in self.parked.values_mut() {
            // The first to arrive has the earliest deadline.
            while let Some(first) = parked.waiting.front()
                && (self.is_stopping || first.is_overdue(now))
            {
                timed_out.extend(parked.waiting.pop_front());
            }
        }
        self.parked_count -= timed_out.len();
        self.parked.retain(|_, parked| !parked.waiting.is_empty());
        for one in timed_out {
            let cause = "the user's row stayed locked, or the database out of reach";
            self.conclude(one, Err(ChangeError::NotApplied(cause.into())));
        }
    }

    fn due_probe(&self, now: Time) -> Option<Vec<UserId>> {
        let is_due = |parked: &Parked<C>| matches!(parked.state, ParkedState::Locked { probe_at, .. } if probe_at <= now);
        let due = self.parked.iter().filter(|(_, parked)| is_due(parked)).map(|(user, _)| *user);
        let users: Vec<UserId> = due.take(PROBE_ROWS_MAX).collect();
        (!users.is_empty()).then_some(users)
    }

    /// The next parked user whose wait is over.
    fn due_parked(&mut self, now: Time) -> Option<Job<C>> {
        let locks_first = |parked: &Parked<C>| match parked.state {
            ParkedState::Locked { .. } => None,
            ParkedState::Paused { until } => (until <= now).then_some(false),
            ParkedState::Ready { locks_first } => Some(locks_first),
        };
        let mut all = self.parked.iter_mut();
        let found = all.find_map(|(user, parked)| Some((*user, locks_first(parked)?, parked)));
        let (user, locks_first, parked) = found?;
        let count = parked.waiting.len().min(CHANGES_MAX);
        let waiting: Vec<_> = parked.waiting.drain(..count).collect();
        parked.state = ParkedState::Ready { locks_first };
        if parked.waiting.is_empty() {
            self.parked.remove(&user);
        }
        self.parked_count -= count;
        Some(Job { locks_first, ..Job::new(vec![Group::new(user, waiting)], 0) })
    }

    /// When the next step is due if no change arrives.
    fn wakes_at(&self) -> Option<Time> {
        let of = |parked: &Parked<C>| {
            let wait_ends = match parked.state {
                ParkedState::Locked { probe_at: at, .. } | ParkedState::Paused { until: at } => at,
                ParkedState::Ready { .. } => Time::ZERO,
            };
            let deadline = parked.waiting.front().and_then(|first| first.deadline);
            deadline.map_or(wait_ends, |deadline| deadline.min(wait_ends))
        };
        self.parked.values().map(of).min()
    }
}

#[cfg(test)]
impl<C> Core<C> {
    /// Puts an old bug back: the core forgets that earlier attempts may have been applied.
    fn forget_attempts(&mut self) {
        let sent = self.sent.iter_mut().filter_map(|task| match task {
            Task::Job(job) => Some(job),
            Task::Probe { job, .. } => job.as_mut(),
        });
        let in_jobs = sent.chain(&mut self.jobs).flat_map(Job::waiting_mut);
        let parked = self.parked.values_mut().flat_map(|parked| &mut parked.waiting);
        in_jobs.chain(parked).for_each(|one| one.maybe_applied = false);
    }
}

impl ParkedState {
    /// `locked` is the version of the row where another session has it locked.
    fn after_probe(self, now: Time, locked: Option<i64>) -> Self {
        let Self::Locked { version: before, .. } = self else { return self };
        match (locked, before) {
            (None, _) => Self::Ready { locks_first: false },
            (Some(version), Some(before)) if version != before => Self::Ready { locks_first: true },
            (version, _) => Self::Locked { probe_at: now + PROBE_INTERVAL, version },
        }
    }
}

impl<C> Job<C> {
    /// A job that was sent again `attempts` times.
    fn new(groups: Vec<Group<C>>, attempts: u32) -> Self {
        Self { groups, attempts, races: 0, probes: 0, locks_first: false, releases_first: false }
    }

    fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Waiting<C>> {
        self.groups.iter_mut().flat_map(|group| &mut group.waiting)
    }

    /// Bounds the wait of each change from its first failure on.
    fn set_deadlines(&mut self, now: Time) {
        for one in self.waiting_mut() {
            one.deadline.get_or_insert(now + WAIT_MAX);
        }
    }

    fn request(&self) -> Request<'_> {
        if let [group] = self.groups.as_slice() {
            if self.releases_first {
                return Request::ReleaseHolds(group.user);
            }
            if self.locks_first {
                return Request::Locked { user: group.user, changes: group.changes() };
            }
            if let Some(change) = group.lone_change() {
                return Request::Alone(change);
            }
        }
        Request::Batch(self.groups.iter().map(Group::part).collect())
    }
}

impl<C> Group<C> {
    /// Plans to accept everything. Where no balance could take it all, or there is nothing to write,
    /// the plan has a guard that never holds: the statement then only reads, and the changes are
    /// decided one by one.
    fn new(user: UserId, waiting: Vec<Waiting<C>>) -> Self {
        let plan = fold::whole(waiting.iter().map(|one| &one.change));
        let plan = plan.filter(|plan| plan.count > 0 || plan.writes(&changes_of(&waiting)));
        Self { user, plan: plan.unwrap_or_else(|| Plan::reading(waiting.len())), waiting }
    }

    fn changes(&self) -> Vec<&Change> {
        changes_of(&self.waiting)
    }

    fn part(&self) -> Part<'_> {
        Part { user: self.user, plan: &self.plan, changes: self.changes() }
    }

    /// The only change in it, where it writes and has no key.
    fn lone_change(&self) -> Option<&Change> {
        let [Waiting { change, .. }] = self.waiting.as_slice() else { return None };
        Some(change).filter(|change| change.key.is_none() && !change.only_reads())
    }
}

impl<C> Waiting<C> {
    fn is_overdue(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

fn changes_of<C>(waiting: &[Waiting<C>]) -> Vec<&Change> {
    waiting.iter().map(|one| &one.change).collect()
}

/// The versions of the locked rows, by user.
fn held_rows(rows: &[Probed]) -> HashMap<i64, i64> {
    rows.iter().filter(|row| !row.is_free).map(|row| (row.id, row.version)).collect()
}
