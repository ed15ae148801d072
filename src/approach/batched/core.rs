//! What decides over batches: a state machine without I/O.
//!
//! [`Core::next`] says what to send, [`Core::on`] takes the reply and knows whom to answer, and how.
//! A [`lane`](super::lane) only carries between it and a session. So it runs against a simulated
//! database as well (`simulation/`), under every failure at every point.
//!
//! # The way of a change
//! It arrives, and is taken into a batch with everything that has queued up. The batch is a stack of
//! jobs. Each step sends one job, answers whoever it can, and leaves the rest as further jobs:
//! those who must be decided one by one, or the halves of a job whose data the database objects to.
//!
//! # What becomes of a failure
//! - *The data* (classes 22 and 23): the job is halved until the change that the database objects to
//!   stands alone. Nothing else is worth halving: it would fail the same, and multiply the wait.
//! - *A lost race*, or a session that broke before it was sent: the job is sent again, and after
//!   [`ATTEMPTS_MAX`] each of its users for himself, after a pause.
//! - *A row that stayed locked*: a look tells which users are held. These are *parked*: they leave
//!   the lane's way, and the others go on without them. Where no row is held, all are parked.
//! - *Unknown*: a change without a key is told so. One with a key is sent again, for the key makes
//!   that safe, and from then on only its key may tell: see [`Core::conclude`], the one place that
//!   decides it.
//! - *Everything else* is told to all of the job.
//!
//! # Parked users
//! Their changes wait in order of arrival, each for [`WAIT_MAX`] at most from its own first failure,
//! and hold nothing meanwhile. Further changes of theirs join them, so that none overtakes another.
//! A row that is still locked but has changed since the last look is not held, it only changes hands
//! all the time: it is locked first, and waited for a little longer, which cannot lose.

#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::fold::{self, Guard, Plan, Planned};
use super::statement::{Part, Reply};
use crate::ledger::{Balance, Change, ChangeError, Decision, Outcome, UserId};
use crate::store::error::Failure;
use crate::store::held::{PROBE_FIRST, PROBE_INTERVAL, PROBE_ROWS_MAX, Probed, WAIT_MAX};
use crate::store::keys::Stored;

/// The most changes in one batch. More would not be faster: the commit is a small part of the cost
/// of so many rows by then, and each caller waits for the whole batch.
pub(super) const CHANGES_MAX: usize = 2_048;

/// A user whose plan lost this many races against other processes is locked first.
const RACES_MAX: u32 = 3;

/// How often a job is sent again as it is. Then something is wrong with one of its users or with the
/// database, and each user goes on alone, after pauses.
const ATTEMPTS_MAX: u32 = 3;

/// The pause of a user who goes on alone.
const PAUSE: Duration = Duration::from_millis(50);

/// Time since the lane was started.
pub(super) type Time = Duration;

/// What a caller waits for.
pub(super) type Answer = Result<Outcome, ChangeError>;

/// A change in the lane, and who waits for it.
pub(super) struct Waiting<C> {
    change: Change,
    caller: C,
    /// A statement with it was sent whose end is not known: it may have happened.
    maybe_applied: bool,
    /// Set by its first failure: no further attempt begins after it.
    give_up: Option<Time>,
}

/// One user's changes in a job, in order of arrival, and what is planned for them.
struct Group<C> {
    user: UserId,
    waiting: Vec<Waiting<C>>,
    plan: Plan,
}

/// Users in order of their ids, who are sent together.
struct Job<C> {
    groups: Vec<Group<C>>,
    /// How often it was sent again after a failure.
    attempts: u32,
    /// How often its plans, made on a balance that was read, came too late.
    races: u32,
    /// How often it ran into a lock that no look could find.
    blocked: u32,
    /// The row is locked first, and decided on with nobody in between. For one user only.
    locks_first: bool,
}

/// What is on its way to the database.
enum Task<C> {
    Job(Job<C>),
    /// Which rows of these users are locked? Afterwards the job that ran into a lock goes on.
    Probe {
        users: Vec<UserId>,
        then: Option<Job<C>>,
    },
}

/// A user whose changes wait apart.
struct Parked<C> {
    waiting: VecDeque<Waiting<C>>,
    until: Until,
}

/// What a parked user waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// For the row: it is looked at then. `seen` is the version at the last look.
    Free { probe_at: Time, seen: Option<i64> },
    /// For a pause to be over.
    Rested { at: Time },
    /// For its turn. `locks_first` where the row keeps changing hands.
    Sent { locks_first: bool },
}

/// What the lane has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Carry out [`Core::request`] and come back with its end. `accepted` changes left the queue for
    /// it; none where it goes on with an earlier batch.
    Send { accepted: usize },
    /// Nothing, until a change arrives or until then.
    Wait { until: Option<Time> },
}

/// What is to be carried to the database.
pub(super) enum Request<'a> {
    /// One change without a key, as `self` does it.
    Alone(&'a Change),
    /// The statement that carries a batch.
    Batch(Vec<Part<'a>>),
    /// One user: locked first, then decided on one by one.
    Locked { user: UserId, changes: Vec<&'a Change> },
    /// Which of these rows are locked?
    Probe(&'a [UserId]),
}

/// What the database said to a request.
pub(super) enum Response {
    /// `None`: there is no such user.
    Alone(Option<Decision>),
    Batch(Vec<Reply>),
    /// `None`: there is no such user.
    Locked(Option<Locked>),
    Probe(Vec<Probed>),
}

/// How it went for a user whose row was locked first.
pub(super) struct Locked {
    /// The balance that was found.
    pub(super) before: Balance,
    /// What was decided on it.
    pub(super) plan: Plan,
    /// What the statement said; none where there was nothing to write.
    pub(super) replies: Vec<Reply>,
}

/// The state of a lane. `C` is whom to answer.
pub(super) struct Core<C> {
    arrived: VecDeque<Waiting<C>>,
    /// What is left of the last batch. A stack.
    tasks: Vec<Task<C>>,
    parked: BTreeMap<UserId, Parked<C>>,
    /// How many changes are parked, and how many may be.
    parked_count: usize,
    parked_max: usize,
    sent: Option<Task<C>>,
    answers: Vec<(C, Answer)>,
    /// Changes that are sent again, since the last time this was asked for.
    retries: u64,
    /// Parked users and the queue take turns, and so do looks and the queue.
    parked_sent_last: bool,
    probed_last: bool,
    is_stopping: bool,
}

impl<C> Core<C> {
    /// With nothing to do. At most `parked_max` changes wait apart; more are refused.
    pub(super) fn new(parked_max: usize) -> Self {
        Self {
            arrived: VecDeque::new(),
            tasks: Vec::new(),
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

    /// A change comes to the end of the queue.
    pub(super) fn arrive(&mut self, change: Change, caller: C) {
        self.arrived.push_back(Waiting { change, caller, maybe_applied: false, give_up: None });
    }

    /// How many more changes the next batch can take.
    pub(super) fn room(&self) -> usize {
        CHANGES_MAX.saturating_sub(self.arrived.len())
    }

    /// How many changes wait to be taken into a batch.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// Nobody is waited for any more: who is parked is told so.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Those who are answered since the last time, each once.
    pub(super) fn take_answers(&mut self) -> std::vec::Drain<'_, (C, Answer)> {
        self.answers.drain(..)
    }

    /// How many changes were sent again since the last time.
    pub(super) fn take_retries(&mut self) -> u64 {
        std::mem::take(&mut self.retries)
    }

    /// What to do now. After [`Step::Send`] comes [`on`](Self::on).
    pub(super) fn next(&mut self, now: Time) -> Step {
        debug_assert!(self.sent.is_none(), "one request at a time");
        self.give_up(now);
        let (mut accepted, mut task) = (0, self.pop(now));
        if task.is_none() && !(self.probed_last && self.arrived() > 0) {
            task = self.due_probe(now);
        }
        self.probed_last = matches!(task, Some(Task::Probe { then: None, .. }));
        if task.is_none() && !self.parked_sent_last {
            task = self.due_parked(now).map(Task::Job);
            self.parked_sent_last = task.is_some();
        }
        if task.is_none() {
            self.parked_sent_last = false;
            (accepted, task) = self.take_batch(now);
        }
        if task.is_none() {
            task = self.due_parked(now).map(Task::Job);
        }
        if task.is_none() {
            return Step::Wait { until: self.wakes_at() };
        }
        self.sent = task;
        Step::Send { accepted }
    }

    /// What is on its way. Only after [`Step::Send`].
    pub(super) fn request(&self) -> Option<Request<'_>> {
        Some(match self.sent.as_ref()? {
            Task::Probe { users, .. } => Request::Probe(users),
            Task::Job(job) => job.request(),
        })
    }

    /// The end of what was on its way.
    pub(super) fn on(&mut self, now: Time, ended: Result<Response, Failure>) {
        match (self.sent.take(), ended) {
            (Some(Task::Job(job)), Ok(response)) => self.on_response(now, job, response),
            (Some(Task::Job(job)), Err(failure)) => self.on_failure(now, job, failure),
            (Some(Task::Probe { users, then }), Ok(Response::Probe(rows))) => {
                self.on_probe(now, &users, then, &rows);
            }
            (Some(Task::Probe { users, then }), ended) => {
                self.on_failed_probe(now, &users, then, ended.err());
            }
            (None, _) => {}
        }
    }

    /// The one place where a change leaves the lane. What may have been applied once is never "not
    /// applied" before its key has said so: an outcome is kept with the key, and a key that was used
    /// by another request keeps this one out for good. Nothing else proves anything, since the first
    /// statement may still be waiting for a lock, and commit later.
    fn conclude(&mut self, one: Waiting<C>, answer: Answer) {
        let answer = match answer {
            Ok(_) | Err(ChangeError::KeyReused | ChangeError::OutcomeUnknown(_)) => answer,
            Err(ChangeError::NotApplied(cause) | ChangeError::Internal(cause))
                if one.maybe_applied =>
            {
                Err(ChangeError::OutcomeUnknown(cause))
            }
            Err(other) if one.maybe_applied => Err(ChangeError::OutcomeUnknown(other.into())),
            Err(_) => answer,
        };
        self.answers.push((one.caller, answer));
    }

    fn conclude_all(&mut self, groups: Vec<Group<C>>, answer: &Answer) {
        for one in groups.into_iter().flat_map(|group| group.waiting) {
            self.conclude(one, answer.clone());
        }
    }

    /// Forms a batch of whatever has arrived. Returns how many changes it took.
    fn take_batch(&mut self, now: Time) -> (usize, Option<Task<C>>) {
        let count = self.arrived.len().min(CHANGES_MAX);
        let batch: Vec<Waiting<C>> = self.arrived.drain(..count).collect();
        let mut groups = Vec::new();
        for (user, mut waiting) in fold::by_user(batch, |one| one.change.user) {
            if !self.parked.contains_key(&user) {
                groups.push(Group::new(user, waiting));
                continue;
            }
            // Behind those who wait already. To find the row held is its first failure.
            let room = self.parked_max.saturating_sub(self.parked_count).min(waiting.len());
            for one in waiting.drain(room..) {
                let cause = "too many changes wait for the user's row";
                self.conclude(one, Err(ChangeError::NotApplied(cause.into())));
            }
            self.parked_count += waiting.len();
            if let Some(parked) = self.parked.get_mut(&user) {
                for mut one in waiting {
                    one.give_up = Some(now + WAIT_MAX);
                    parked.waiting.push_back(one);
                }
            }
        }
        let task = (!groups.is_empty()).then(|| Task::Job(Job::new(groups, 0)));
        (count, task)
    }

    fn on_response(&mut self, now: Time, job: Job<C>, response: Response) {
        match response {
            Response::Alone(decision) => {
                let answer = decision.map(Outcome::fresh).ok_or(ChangeError::UserNotFound);
                self.conclude_all(job.groups, &answer);
            }
            Response::Batch(replies) => self.on_replies(job, replies),
            Response::Locked(None) => {
                self.conclude_all(job.groups, &Err(ChangeError::UserNotFound));
            }
            Response::Locked(Some(Locked { before, plan, replies })) => {
                let stored = stored_keys(&replies);
                if !stored.is_empty() {
                    return self.without_stored(job, &stored);
                }
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
            Response::Probe(_) => {
                let cause = "the lane answered a batch with a probe";
                self.conclude_all(job.groups, &Err(ChangeError::OutcomeUnknown(cause.into())));
            }
        }
    }

    /// The database has done what it could; who is left?
    fn on_replies(&mut self, job: Job<C>, replies: Vec<Reply>) {
        let stored = stored_keys(&replies);
        if !stored.is_empty() {
            return self.without_stored(job, &stored);
        }
        let mut applied = HashMap::new();
        let mut unchanged = HashMap::new();
        for reply in replies {
            match reply {
                Reply::Applied { user, before } => {
                    applied.insert(user, before);
                }
                Reply::Unchanged { user, funds, version } => {
                    unchanged.insert(user, (funds, version));
                }
                Reply::Replayed { .. } => {}
            }
        }
        let mut left = Vec::new();
        let mut raced = false;
        for mut group in job.groups {
            let user = group.user.get();
            if let Some(before) = applied.get(&user) {
                self.conclude_group(group, *before);
            } else if let Some((funds, version)) = unchanged.get(&user) {
                raced |= matches!(group.plan.guard, Guard::Version(_));
                group.plan = fold::each(*funds, *version, group.changes().into_iter());
                if group.plan.writes(&group.changes()) {
                    left.push(group);
                } else {
                    self.conclude_group(group, funds.balance);
                }
            } else {
                self.conclude_all(vec![group], &Err(ChangeError::UserNotFound));
            }
        }
        if left.is_empty() {
            return;
        }
        let races = job.races + u32::from(raced);
        if raced {
            self.count_retries(&left);
        }
        if races <= RACES_MAX {
            return self.push(Job { races, ..Job::new(left, job.attempts) });
        }
        for group in left {
            self.push(Job { locks_first: true, ..Job::new(vec![group], job.attempts) });
        }
    }

    /// The plan was carried out on this balance, or there was nothing to carry out.
    fn conclude_group(&mut self, group: Group<C>, before: Balance) {
        let planned = group.plan.changes;
        let answer = |planned: Planned| -> Answer {
            match planned {
                Planned::Accepted { running } => {
                    Ok(Outcome::fresh(Decision::Accepted(before + running)))
                }
                Planned::Refused => Ok(Outcome::fresh(Decision::Refused)),
                Planned::KeyReused => Err(ChangeError::KeyReused),
                Planned::OutOfRange => Err(ChangeError::BalanceOutOfRange),
                // The original is never a copy itself.
                Planned::Copy { .. } => Err(ChangeError::Internal("a copy of a copy".into())),
            }
        };
        for (own, one) in planned.iter().zip(group.waiting) {
            let answer = match own {
                Planned::Copy { of } => {
                    answer(planned[*of]).map(|original| Outcome::replayed(original.decision))
                }
                own => answer(*own),
            };
            self.conclude(one, answer);
        }
    }

    /// Answers whose keys were used before; the others are sent again, since nothing was done for
    /// them.
    fn without_stored(&mut self, job: Job<C>, stored: &StoredKeys) {
        let mut left = Vec::new();
        for group in job.groups {
            let mut waiting = Vec::new();
            for one in group.waiting {
                let key =
                    one.change.key.as_ref().map(|key| (group.user.get(), key.as_str().to_owned()));
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
        if !left.is_empty() {
            self.push(Job::new(left, job.attempts));
        }
    }

    fn on_failure(&mut self, now: Time, mut job: Job<C>, failure: Failure) {
        match failure {
            Failure::Data(error) => self.split(job, error),
            Failure::Locked(_) => {
                job.fails_at(now);
                let users = job.groups.iter().map(|group| group.user).collect();
                self.tasks.push(Task::Probe { users, then: Some(job) });
            }
            Failure::Race(cause) | Failure::NotSent(cause) => {
                self.send_again(now, job, &ChangeError::NotApplied(cause));
            }
            Failure::Unknown(cause) => {
                let unknown = ChangeError::OutcomeUnknown(cause);
                for group in &mut job.groups {
                    group.waiting.iter_mut().for_each(|one| one.maybe_applied = true);
                }
                let job = self.retain(job, |one| one.change.key.is_some(), &unknown);
                self.send_again(now, job, &unknown);
            }
            Failure::Unreachable(cause) => {
                let not_applied = ChangeError::NotApplied(cause);
                // Changes that were never sent need not wait for the database to come back. No other
                // job of this batch would fare better.
                let others = std::mem::take(&mut self.tasks).into_iter().rev();
                let others = others.filter_map(|task| match task {
                    Task::Job(job) => Some(job),
                    Task::Probe { then, .. } => then,
                });
                let all: Vec<_> = std::iter::once(job).chain(others).collect();
                // The last one first: each is put in front of those that came after it.
                for job in all.into_iter().rev() {
                    for group in self.retain(job, |one| one.maybe_applied, &not_applied).groups {
                        self.rest(now, group);
                    }
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
            let (kept, gone): (Vec<_>, Vec<_>) = group.waiting.into_iter().partition(&stays);
            for one in gone {
                self.conclude(one, Err(error.clone()));
            }
            if !kept.is_empty() {
                groups.push(Group::new(group.user, kept));
            }
        }
        Job { groups, ..job }
    }

    /// Sends a job again: as it is, or after some attempts each user for himself.
    fn send_again(&mut self, now: Time, mut job: Job<C>, error: &ChangeError) {
        job.fails_at(now);
        let job = self.retain(job, |one| !one.is_overdue(now), error);
        if job.groups.is_empty() {
            return;
        }
        self.count_retries(&job.groups);
        if job.attempts < ATTEMPTS_MAX {
            return self.push(Job { attempts: job.attempts + 1, ..job });
        }
        for group in job.groups {
            self.rest(now, group);
        }
    }

    /// The next task of the batch, without those who have waited for too long.
    fn pop(&mut self, now: Time) -> Option<Task<C>> {
        while let Some(task) = self.tasks.pop() {
            let Task::Job(job) = task else { return Some(task) };
            let late = ChangeError::NotApplied("the batch did not get its locks in time".into());
            let job = self.retain(job, |one| !one.is_overdue(now), &late);
            if !job.groups.is_empty() {
                return Some(Task::Job(job));
            }
        }
        None
    }

    fn push(&mut self, job: Job<C>) {
        self.tasks.push(Task::Job(job));
    }

    fn count_retries(&mut self, groups: &[Group<C>]) {
        self.retries += groups.iter().map(|group| group.waiting.len() as u64).sum::<u64>();
    }

    /// Halves a job until the change that the database objects to stands alone.
    fn split(&mut self, mut job: Job<C>, error: ChangeError) {
        let job_of = |groups| Job::new(groups, job.attempts);
        if job.groups.len() > 1 {
            let second = job.groups.split_off(job.groups.len() / 2);
            // The stack is emptied from its end.
            self.push(job_of(second));
            self.push(job_of(job.groups));
            return;
        }
        let Some(mut group) = job.groups.pop() else { return };
        if group.waiting.len() > 1 {
            let second = group.waiting.split_off(group.waiting.len() / 2);
            for half in [second, group.waiting] {
                self.push(job_of(vec![Group::new(group.user, half)]));
            }
            return;
        }
        if let Some(one) = group.waiting.pop() {
            self.conclude(one, Err(error));
        }
    }

    fn on_probe(&mut self, now: Time, users: &[UserId], then: Option<Job<C>>, rows: &[Probed]) {
        let rows: HashMap<i64, &Probed> = rows.iter().map(|row| (row.id, row)).collect();
        let held = |user: UserId| rows.get(&user.get()).filter(|row| !row.is_free);
        let Some(job) = then else {
            for user in users {
                if let Some(parked) = self.parked.get_mut(user) {
                    parked.until =
                        parked.until.after_probe(now, held(*user).map(|row| row.version));
                }
            }
            return;
        };
        let Job { groups, blocked, .. } = job;
        let (blocked, job) = (blocked + 1, Job { groups: Vec::new(), ..job });
        let (apart, free): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| held(group.user).is_some());
        let nobody_is_held = apart.is_empty();
        for group in apart {
            let seen = held(group.user).map(|row| row.version);
            self.park(now, group, Until::Free { probe_at: now + PROBE_FIRST, seen });
        }
        self.count_retries(&free);
        if !nobody_is_held || blocked == 1 {
            if !free.is_empty() {
                self.push(Job { groups: free, blocked, ..job });
            }
            return;
        }
        // It runs into a lock, but no row is locked: somebody keeps a key in use, say, or the whole
        // table. So each user goes on alone, in turn with the queue.
        for group in free {
            self.park(now, group, Until::Free { probe_at: now + PROBE_INTERVAL, seen: None });
        }
    }

    /// A look only looks: whatever happened, nothing was applied by it.
    fn on_failed_probe(
        &mut self,
        now: Time,
        users: &[UserId],
        then: Option<Job<C>>,
        failure: Option<Failure>,
    ) {
        for user in users {
            if let Some(parked) = self.parked.get_mut(user) {
                parked.until = Until::Free { probe_at: now + PROBE_INTERVAL, seen: None };
            }
        }
        match (then, failure) {
            (None, _) => {}
            (Some(job), Some(Failure::Unknown(cause))) => {
                self.on_failure(now, job, Failure::NotSent(cause));
            }
            // The whole table is locked, say. It tells as much as a look that finds nobody.
            (Some(job), None | Some(Failure::Locked(_))) => {
                self.on_probe(now, users, Some(job), &[]);
            }
            (Some(job), Some(failure)) => self.on_failure(now, job, failure),
        }
    }

    /// Lets a group wait apart, in front of those of the same user who came later. Some of these may
    /// still be on the stack, where a job was halved.
    fn park(&mut self, now: Time, group: Group<C>, until: Until) {
        let Group { user, mut waiting, .. } = group;
        for task in self.tasks.iter_mut().rev() {
            if let Task::Job(job) = task {
                let of_user = job.groups.extract_if(.., |group| group.user == user);
                waiting.extend(of_user.flat_map(|group| group.waiting));
            }
        }
        self.tasks.retain(|task| !matches!(task, Task::Job(job) if job.groups.is_empty()));
        self.parked_count += waiting.len();
        let parked =
            self.parked.entry(user).or_insert_with(|| Parked { waiting: VecDeque::new(), until });
        parked.until = until;
        for mut one in waiting.into_iter().rev() {
            one.give_up.get_or_insert(now + WAIT_MAX);
            parked.waiting.push_front(one);
        }
    }

    fn rest(&mut self, now: Time, group: Group<C>) {
        self.park(now, group, Until::Rested { at: now + PAUSE });
    }

    /// Tells those who have waited for too long.
    fn give_up(&mut self, now: Time) {
        if self.parked.is_empty() {
            return;
        }
        let mut given_up = Vec::new();
        for parked in self.parked.values_mut() {
            // Who came first gives up first.
            while let Some(first) = parked.waiting.front()
                && (self.is_stopping || first.is_overdue(now))
            {
                given_up.extend(parked.waiting.pop_front());
            }
        }
        self.parked_count -= given_up.len();
        self.parked.retain(|_, parked| !parked.waiting.is_empty());
        for one in given_up {
            let cause = "the user's row stayed locked, or the database out of reach";
            self.conclude(one, Err(ChangeError::NotApplied(cause.into())));
        }
    }

    fn due_probe(&self, now: Time) -> Option<Task<C>> {
        let due = |parked: &Parked<C>| matches!(parked.until, Until::Free { probe_at, .. } if probe_at <= now);
        let due = self.parked.iter().filter(|(_, parked)| due(parked)).map(|(user, _)| *user);
        let users: Vec<UserId> = due.take(PROBE_ROWS_MAX).collect();
        (!users.is_empty()).then_some(Task::Probe { users, then: None })
    }

    /// The next parked user whose wait is over.
    fn due_parked(&mut self, now: Time) -> Option<Job<C>> {
        let ready = |parked: &Parked<C>| match parked.until {
            Until::Free { .. } => None,
            Until::Rested { at } => (at <= now).then_some(false),
            Until::Sent { locks_first } => Some(locks_first),
        };
        let found = self.parked.iter().find_map(|(user, parked)| Some((*user, ready(parked)?)));
        let (user, locks_first) = found?;
        let parked = self.parked.get_mut(&user)?;
        let count = parked.waiting.len().min(CHANGES_MAX);
        let waiting: Vec<_> = parked.waiting.drain(..count).collect();
        self.parked_count -= count;
        if parked.waiting.is_empty() {
            self.parked.remove(&user);
        } else {
            parked.until = Until::Sent { locks_first };
        }
        Some(Job { locks_first, ..Job::new(vec![Group::new(user, waiting)], 0) })
    }

    /// When there is something to do, if nobody arrives.
    fn wakes_at(&self) -> Option<Time> {
        let of = |parked: &Parked<C>| {
            let wait_ends = match parked.until {
                Until::Free { probe_at: at, .. } | Until::Rested { at } => at,
                Until::Sent { .. } => Time::ZERO,
            };
            let give_up = parked.waiting.front().and_then(|first| first.give_up);
            give_up.map_or(wait_ends, |give_up| give_up.min(wait_ends))
        };
        self.parked.values().map(of).min()
    }
}

#[cfg(test)]
impl<C> Core<C> {
    /// A bug that was there once: what is known of first attempts is lost.
    fn forget_attempts(&mut self) {
        let sent = self.sent.iter_mut().chain(&mut self.tasks);
        let jobs = sent.filter_map(|task| match task {
            Task::Job(job) => Some(job),
            Task::Probe { then, .. } => then.as_mut(),
        });
        let in_jobs = jobs.flat_map(|job| &mut job.groups).flat_map(|group| &mut group.waiting);
        let parked = self.parked.values_mut().flat_map(|parked| &mut parked.waiting);
        in_jobs.chain(parked).for_each(|one| one.maybe_applied = false);
    }
}

impl Until {
    /// `held` is the version of the row, if somebody has it locked.
    fn after_probe(self, now: Time, held: Option<i64>) -> Self {
        let before = match self {
            Self::Free { seen, .. } => seen,
            Self::Rested { .. } | Self::Sent { .. } => return self,
        };
        match (held, before) {
            (None, _) => Self::Sent { locks_first: false },
            (Some(version), Some(before)) if version != before => Self::Sent { locks_first: true },
            (held, _) => Self::Free { probe_at: now + PROBE_INTERVAL, seen: held },
        }
    }
}

impl<C> Group<C> {
    fn new(user: UserId, waiting: Vec<Waiting<C>>) -> Self {
        // Where no balance could take it all, a guard that never holds makes the statement only
        // read, and then it is decided one by one.
        let plan = fold::whole(waiting.iter().map(|one| &one.change));
        Self { user, plan: plan.unwrap_or_else(|| Plan::reading(waiting.len())), waiting }
    }

    fn changes(&self) -> Vec<&Change> {
        self.waiting.iter().map(|one| &one.change).collect()
    }

    fn part(&self) -> Part<'_> {
        Part { user: self.user, plan: &self.plan, changes: self.changes() }
    }

    /// The only change in it, where it has no key.
    fn lone_change(&self) -> Option<&Change> {
        let [Waiting { change, .. }] = self.waiting.as_slice() else { return None };
        Some(change).filter(|change| change.key.is_none())
    }
}

impl<C> Waiting<C> {
    fn is_overdue(&self, now: Time) -> bool {
        self.give_up.is_some_and(|give_up| give_up <= now)
    }
}

impl<C> Job<C> {
    /// From its first failure on, a change waits for a bounded time.
    fn fails_at(&mut self, now: Time) {
        for one in self.groups.iter_mut().flat_map(|group| &mut group.waiting) {
            one.give_up.get_or_insert(now + WAIT_MAX);
        }
    }

    /// A job that was sent again `attempts` times.
    fn new(groups: Vec<Group<C>>, attempts: u32) -> Self {
        Self { groups, attempts, races: 0, blocked: 0, locks_first: false }
    }

    fn request(&self) -> Request<'_> {
        if let [group] = self.groups.as_slice() {
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

type StoredKeys = HashMap<(i64, String), Stored>;

fn stored_keys(replies: &[Reply]) -> StoredKeys {
    let stored = replies.iter().filter_map(|reply| match reply {
        Reply::Replayed { user, key, stored } => Some(((*user, key.clone()), stored.clone())),
        Reply::Applied { .. } | Reply::Unchanged { .. } => None,
    });
    stored.collect()
}
