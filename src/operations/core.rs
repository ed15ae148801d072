//! The decisions about batches of operations: a state machine without I/O, like that of `batched`.
//!
//! # How an operation passes through
//! It arrives, and joins a batch with everything else in the queue. The batch is a stack of jobs. Each
//! step sends one job and answers the callers it can; what is left is pushed as further jobs.
//!
//! # Failures
//! - *Data* (classes 22 and 23): the job is halved until the rejected operation is alone.
//! - *A lost race*, or a session that broke before the commit was sent: the job is sent again; after
//!   [`ATTEMPTS_MAX`] attempts it is halved, and an operation that is alone pauses.
//! - *A row that stayed locked*: a probe finds the held users. Operations that need one of them are
//!   *parked*, and the others go on without them. If no row is held, the job is sent again, then halved.
//! - *Unknown*: an operation without a key is answered "outcome unknown". One with a key is sent again,
//!   because the key makes that safe; from then on only its key proves an outcome.
//! - *Every other failure* is the answer to the whole job.
//!
//! # Parked operations
//! They wait without a session and hold nothing, for at most [`WAIT_MAX`] from their first failure.
//! Operations that arrive later and need the same user join them. A held row is probed ten times a
//! second. A row that is locked but has changed since the last probe only changes hands all the time: it
//! is waited for longer, in a batch of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::decide::Decided;
use crate::ledger::{ChangeError, Operation, OperationDecision, Outcome, Timestamp, UserId};
use crate::queue::lane::{Step, Time};
use crate::queue::shares::{Holders, OfUsers, payees_share_of};
use crate::store::error::Failure;
use crate::store::held::{PROBE_FIRST, PROBE_INTERVAL, PROBE_ROWS_MAX, Probed, WAIT_MAX};
use crate::store::share::share_of;

/// The most operations in one batch. The commit is already a small part of the cost of so many, and each
/// caller waits for the whole batch.
pub(super) const OPERATIONS_MAX: usize = 1_024;

/// The most rows that a batch may need, where atomic bulks are in it.
const ROWS_MAX: usize = 4_096;

/// The most users whose expired holds are released in one request, in a commit each.
const RELEASES_MAX: usize = 16;

/// How often a whole job is sent again before it is halved.
const ATTEMPTS_MAX: u32 = 3;

/// The answer to one caller.
pub(super) type Answer = Result<Outcome<OperationDecision>, ChangeError>;

/// A request to the database.
pub(super) enum Request<'a> {
    /// Decide these in order. `is_patient`: wait longer for the rows.
    Batch { operations: Vec<&'a Operation>, is_patient: bool },
    /// Release the holds of these users that have expired at this stamp.
    ReleaseHolds { users: &'a [UserId], at: Timestamp },
    /// Which of these rows are locked?
    Probe(&'a [UserId]),
}

/// The response to the request of the same name.
pub(super) enum Response {
    /// One for each operation.
    Batch(Vec<Decided>),
    ReleaseHolds,
    Probe(Vec<Probed>),
}

/// The state of a lane of operations. `C` identifies a caller.
pub(super) struct Core<C> {
    arrived: VecDeque<Waiting<C>>,
    /// The rest of the last batch: a stack.
    jobs: Vec<Job<C>>,
    /// A job that ran into a lock: its users are probed next.
    blocked: Option<Job<C>>,
    /// In order of arrival.
    parked: VecDeque<Waiting<C>>,
    parked_max: usize,
    /// Users whose rows were locked at the last probe, or keep changing hands.
    held: BTreeMap<UserId, HeldRow>,
    sent: Option<Task<C>>,
    answers: Vec<(C, Answer)>,
    /// Operations that were sent again since the last [`take_retries`](Self::take_retries).
    retries: u64,
    /// Parked operations alternate with the queue, and so do probes.
    parked_sent_last: bool,
    probed_last: bool,
    is_stopping: bool,
}

/// An operation, and its caller.
struct Waiting<C> {
    operation: Operation,
    caller: C,
    /// The outcome of an earlier attempt is unknown: it may be applied.
    maybe_applied: bool,
    /// Set by its first failure. No further attempt begins after it.
    deadline: Option<Time>,
    /// A parked operation pauses until then.
    resumes_at: Time,
}

/// Operations that are sent together, in order of arrival.
struct Job<C> {
    waiting: Vec<Waiting<C>>,
    /// How often it was sent again after a failure.
    attempts: u32,
    /// How often it ran into a lock and its users were probed.
    probes: u32,
    /// Waits longer for the rows.
    is_patient: bool,
    /// Users whose expired holds have to be released first, and the stamp at which they have expired.
    releases: Option<(Vec<UserId>, Timestamp)>,
}

/// What was sent to the database.
enum Task<C> {
    Job(Job<C>),
    /// A probe of these users: those of a job that ran into a lock, or held ones.
    Probe {
        users: Vec<UserId>,
        job: Option<Job<C>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeldRow {
    /// Probed at this time. `version` is that of the last probe.
    Locked { probe_at: Time, version: Option<i64> },
    /// It keeps changing hands.
    Busy,
}

impl<C> Core<C> {
    /// An idle core. At most `parked_max` operations are parked; more are refused.
    pub(super) fn new(parked_max: usize) -> Self {
        Self {
            arrived: VecDeque::new(),
            jobs: Vec::new(),
            blocked: None,
            parked: VecDeque::new(),
            parked_max,
            held: BTreeMap::new(),
            sent: None,
            answers: Vec::new(),
            retries: 0,
            parked_sent_last: false,
            probed_last: false,
            is_stopping: false,
        }
    }

    /// Appends an operation to the queue.
    pub(super) fn arrive(&mut self, operation: Operation, caller: C) {
        self.arrived.push_back(Waiting {
            operation,
            caller,
            maybe_applied: false,
            deadline: None,
            resumes_at: Time::ZERO,
        });
    }

    /// How many more operations the next batch can take.
    pub(super) fn room(&self) -> usize {
        OPERATIONS_MAX.saturating_sub(self.arrived.len())
    }

    /// How many operations wait for the next batch.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// Parked operations are no longer waited for: the next step answers them.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// The new answers since the last call. Each caller is answered once.
    pub(super) fn take_answers(&mut self) -> std::vec::Drain<'_, (C, Answer)> {
        self.answers.drain(..)
    }

    /// How many operations were sent again since the last call.
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
            None => Step::Wait { until: self.wakes_at(now) },
        }
    }

    /// The request of the last [`Step::Send`].
    pub(super) fn request(&self) -> Option<Request<'_>> {
        Some(match self.sent.as_ref()? {
            Task::Probe { users, .. } => Request::Probe(users),
            Task::Job(job) => match &job.releases {
                Some((users, at)) => Request::ReleaseHolds { users, at: *at },
                None => Request::Batch {
                    operations: job.waiting.iter().map(|one| &one.operation).collect(),
                    is_patient: job.is_patient,
                },
            },
        })
    }

    /// Takes the result of the last [`request`](Self::request).
    ///
    /// # Panics
    /// Without a request, or with a response to another one.
    pub(super) fn on(&mut self, now: Time, result: Result<Response, Failure>) {
        match (self.sent.take().expect("a result follows a request"), result) {
            (Task::Job(job), Ok(Response::Batch(decided))) => self.on_batch(now, job, decided),
            (Task::Job(job), Ok(Response::ReleaseHolds)) => {
                // They alternate with the queue: there may be many rounds.
                for one in job.waiting {
                    self.park(now, one, now);
                }
            }
            (Task::Job(job), Err(failure)) => self.on_failure(now, job, failure),
            (Task::Probe { job: Some(job), .. }, Ok(Response::Probe(rows))) => {
                self.on_probed_job(now, job, &rows);
            }
            (Task::Probe { users, job: None }, Ok(Response::Probe(rows))) => {
                self.on_probed_held(now, &users, &rows);
            }
            (Task::Probe { users, job }, Err(failure)) => {
                self.on_failed_probe(now, &users, job, failure);
            }
            (Task::Job(_), Ok(Response::Probe(_))) | (Task::Probe { .. }, Ok(_)) => {
                unreachable!("a response to another request")
            }
        }
    }

    /// The one place where an operation leaves. One that may be applied is never "not applied" before
    /// its key proves it.
    fn conclude(&mut self, one: Waiting<C>, answer: Answer) {
        let answer = match answer {
            Err(error) if one.maybe_applied => Err(error.after_an_unknown_attempt()),
            answer => answer,
        };
        self.answers.push((one.caller, answer));
    }

    fn conclude_all(&mut self, waiting: Vec<Waiting<C>>, error: &ChangeError) {
        for one in waiting {
            self.conclude(one, Err(error.clone()));
        }
    }

    /// The next task to send, and how many operations left the queue for it.
    fn next_task(&mut self, now: Time) -> (usize, Option<Task<C>>) {
        let may_probe = !self.probed_last || self.arrived.is_empty();
        self.probed_last = false;
        if let Some(job) = self.blocked.take() {
            let users = job.users().into_iter().collect();
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

    /// The next job of the batch, without operations whose deadline has passed.
    fn pop(&mut self, now: Time) -> Option<Job<C>> {
        while let Some(job) = self.jobs.pop() {
            let late = ChangeError::NotApplied("the batch did not get its locks in time".into());
            let job = self.retain(job, |one| !one.is_overdue(now), &late);
            if !job.waiting.is_empty() {
                return Some(job);
            }
        }
        None
    }

    fn push(&mut self, job: Job<C>) {
        if !job.waiting.is_empty() {
            self.jobs.push(job);
        }
    }

    /// Forms a batch of the queue. Returns how many operations it took.
    fn take_batch(&mut self, now: Time) -> (usize, Option<Job<C>>) {
        let (mut count, mut rows) = (0, 0);
        let mut batch = Vec::new();
        while count < OPERATIONS_MAX && rows < ROWS_MAX {
            let Some(one) = self.arrived.pop_front() else { break };
            count += 1;
            if self.needs_held(&one) {
                self.park(now, one, now);
            } else {
                rows += one.operation.users().count();
                batch.push(one);
            }
        }
        (count, (!batch.is_empty()).then(|| Job::new(batch, 0)))
    }

    /// Answers what the batch has decided. What needs the money of expired holds is decided again after
    /// these are released.
    fn on_batch(&mut self, now: Time, job: Job<C>, decided: Vec<Decided>) {
        if job.is_patient {
            for user in job.users() {
                self.held.remove(&user);
            }
        }
        let (mut left, mut releases, mut latest) = (Vec::new(), BTreeSet::new(), None);
        for (one, decided) in job.waiting.into_iter().zip(decided) {
            match decided {
                Decided::Done(answer) => self.conclude(one, answer),
                Decided::HoldsExpired { users, at } => {
                    releases.extend(users);
                    latest = Some(at);
                    left.push(one);
                }
            }
        }
        let mut job = Job::new(left, job.attempts);
        job.releases = latest.map(|at| (releases.into_iter().take(RELEASES_MAX).collect(), at));
        // Each round releases holds, but there may be many.
        job.set_deadlines(now);
        self.push(job);
    }

    fn on_failure(&mut self, now: Time, mut job: Job<C>, failure: Failure) {
        match failure {
            Failure::Data(error) => self.split(job, |core, one| core.conclude(one, Err(error))),
            Failure::Locked(_) => {
                job.set_deadlines(now);
                self.blocked = Some(job);
            }
            Failure::Race(cause) | Failure::NotSent(cause) => {
                self.send_again(now, job, &ChangeError::NotApplied(cause));
            }
            Failure::Unknown(cause) => {
                let unknown = ChangeError::OutcomeUnknown(cause);
                job.waiting.iter_mut().for_each(|one| one.maybe_applied = true);
                let job = self.retain(job, |one| one.operation.key().is_some(), &unknown);
                self.send_again(now, job, &unknown);
            }
            Failure::Unreachable(cause) => {
                self.on_unreachable(now, job, &ChangeError::NotApplied(cause));
            }
            Failure::HoldsExpired => {
                self.send_again(now, job, &ChangeError::from(Failure::HoldsExpired));
            }
            Failure::Final(error) => self.conclude_all(job.waiting, &error),
        }
    }

    /// Operations that were never sent need not wait for the database to come back. No other job of this
    /// batch would succeed either.
    fn on_unreachable(&mut self, now: Time, job: Job<C>, error: &ChangeError) {
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.push(job);
        while let Some(mut job) = jobs.pop() {
            job.set_deadlines(now);
            for one in self.retain(job, |one| one.maybe_applied, error).waiting {
                self.park(now, one, now + PROBE_INTERVAL);
            }
        }
    }

    /// Retains the operations for which `stays` holds in the job, and concludes the others.
    fn retain(
        &mut self,
        mut job: Job<C>,
        stays: impl Fn(&Waiting<C>) -> bool,
        error: &ChangeError,
    ) -> Job<C> {
        let leaving: Vec<_> = job.waiting.extract_if(.., |one| !stays(one)).collect();
        self.conclude_all(leaving, error);
        job
    }

    /// Sends a job again as a whole, or after some attempts in halves.
    fn send_again(&mut self, now: Time, mut job: Job<C>, error: &ChangeError) {
        job.set_deadlines(now);
        let job = self.retain(job, |one| !one.is_overdue(now), error);
        self.retries += job.waiting.len() as u64;
        if job.attempts < ATTEMPTS_MAX {
            self.push(Job { attempts: job.attempts + 1, ..job });
        } else {
            self.split(job, |core, one| core.park(now, one, now + PROBE_INTERVAL));
        }
    }

    /// Halves a job; an operation that is alone goes to `alone`.
    fn split(&mut self, mut job: Job<C>, alone: impl FnOnce(&mut Self, Waiting<C>)) {
        let second = job.waiting.split_off(job.waiting.len().div_ceil(2));
        if second.is_empty() {
            if let Some(one) = job.waiting.pop() {
                alone(self, one);
            }
            return;
        }
        // The top of the stack is sent first.
        for half in [second, job.waiting] {
            let (probes, is_patient) = (job.probes, job.is_patient);
            self.push(Job { probes, is_patient, ..Job::new(half, job.attempts) });
        }
    }

    /// Parks what needs a held row, and sends the rest again.
    fn on_probed_job(&mut self, now: Time, job: Job<C>, rows: &[Probed]) {
        let locked = locked_rows(rows);
        let Job { waiting, attempts, probes, is_patient, .. } = job;
        for (user, version) in &locked {
            let (probe_at, version) = (now + PROBE_FIRST, Some(*version));
            self.held.insert(*user, HeldRow::Locked { probe_at, version });
        }
        let (blocked, free): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|one| self.needs_held(one));
        let finds_held = !blocked.is_empty();
        for one in blocked {
            self.park(now, one, now);
        }
        self.retries += free.len() as u64;
        let job = Job { probes: probes + 1, is_patient, ..Job::new(free, attempts) };
        if finds_held || probes == 0 {
            return self.push(job);
        }
        // It runs into a lock, but no row is locked: another session uses a key, say.
        self.split(job, |core, one| core.park(now, one, now + PROBE_INTERVAL));
    }

    fn on_probed_held(&mut self, now: Time, users: &[UserId], rows: &[Probed]) {
        let locked = locked_rows(rows);
        for user in users {
            let Some(HeldRow::Locked { version: before, .. }) = self.held.get(user).copied() else {
                continue;
            };
            match (locked.get(user).copied(), before) {
                (None, _) => drop(self.held.remove(user)),
                (Some(version), Some(before)) if version != before => {
                    self.held.insert(*user, HeldRow::Busy);
                }
                (version, _) => {
                    let probe_at = now + PROBE_INTERVAL;
                    self.held.insert(*user, HeldRow::Locked { probe_at, version });
                }
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
        let Some(job) = job else {
            for user in users {
                let probe_at = now + PROBE_INTERVAL;
                self.held.insert(*user, HeldRow::Locked { probe_at, version: None });
            }
            return;
        };
        match failure {
            // A probe applies nothing, so nothing is unknown.
            Failure::Unknown(cause) => self.on_failure(now, job, Failure::NotSent(cause)),
            // The whole table is locked, say. This is the same as a probe that finds no held row.
            Failure::Locked(_) => self.on_probed_job(now, job, &[]),
            failure => self.on_failure(now, job, failure),
        }
    }

    fn needs_held(&self, one: &Waiting<C>) -> bool {
        !self.held.is_empty() && one.operation.users().any(|user| self.held.contains_key(&user))
    }

    /// Lets an operation wait apart, at least until that time.
    fn park(&mut self, now: Time, mut one: Waiting<C>, resumes_at: Time) {
        if self.parked.len() >= self.parked_max || self.has_full_share(one.operation.holders()) {
            let cause = "too many operations wait for users' rows";
            return self.conclude(one, Err(ChangeError::Busy(cause)));
        }
        one.deadline.get_or_insert(now + WAIT_MAX);
        one.resumes_at = resumes_at;
        self.parked.push_back(one);
    }

    /// Whether as much is parked for one of these users as one may have. It is counted only where so much
    /// is parked at all.
    fn has_full_share(&self, Holders { owner, payee }: Holders) -> bool {
        let is_full = |share: usize, is_one: &dyn Fn(Holders) -> bool| {
            let of_user = || self.parked.iter().filter(|one| is_one(one.operation.holders()));
            self.parked.len() >= share && of_user().count() >= share
        };
        is_full(share_of(self.parked_max), &|other| other.owner == owner)
            || payee.is_some()
                && is_full(payees_share_of(self.parked_max), &|other| other.payee == payee)
    }

    /// Answers the parked operations whose deadline has passed.
    fn time_out(&mut self, now: Time) {
        let is_stopping = self.is_stopping;
        let is_over = |one: &Waiting<C>| is_stopping || one.is_overdue(now);
        if !self.parked.iter().any(is_over) {
            return;
        }
        let (over, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(is_over);
        self.parked = waiting;
        for one in over {
            let cause = "a user's row stayed locked, or the database out of reach";
            self.conclude(one, Err(ChangeError::NotApplied(cause.into())));
        }
        let needed: BTreeSet<UserId> =
            self.parked.iter().flat_map(|one| one.operation.users()).collect();
        self.held.retain(|user, _| needed.contains(user));
    }

    fn due_probe(&self, now: Time) -> Option<Vec<UserId>> {
        let is_due =
            |row: &HeldRow| matches!(row, HeldRow::Locked { probe_at, .. } if *probe_at <= now);
        let due = self.held.iter().filter(|(_, row)| is_due(row)).map(|(user, _)| *user);
        let users: Vec<UserId> = due.take(PROBE_ROWS_MAX).collect();
        (!users.is_empty()).then_some(users)
    }

    /// The parked operations whose wait is over. Those that need a row which keeps changing hands are
    /// sent together with the others, and all of them wait longer for their rows.
    fn due_parked(&mut self, now: Time) -> Option<Job<C>> {
        if self.parked.is_empty() {
            return None;
        }
        let held = &self.held;
        let is_locked = |user| matches!(held.get(&user), Some(HeldRow::Locked { .. }));
        let is_due =
            |one: &Waiting<C>| one.resumes_at <= now && !one.operation.users().any(is_locked);
        let (due, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(is_due);
        self.parked = waiting;
        let (mut taken, mut rows) = (Vec::new(), 0);
        let mut due = due.into_iter();
        while taken.len() < OPERATIONS_MAX && rows < ROWS_MAX {
            let Some(one) = due.next() else { break };
            rows += one.operation.users().count();
            taken.push(one);
        }
        for one in due.rev() {
            self.parked.push_front(one);
        }
        let is_patient = taken.iter().any(|one| self.needs_held(one));
        (!taken.is_empty()).then(|| Job { is_patient, ..Job::new(taken, 0) })
    }

    /// When the next step is due if no operation arrives.
    fn wakes_at(&self, now: Time) -> Option<Time> {
        let probes = self.held.values().filter_map(|row| match row {
            HeldRow::Locked { probe_at, .. } => Some(*probe_at),
            HeldRow::Busy => None,
        });
        // One that no longer pauses waits for a probe.
        let pauses = self.parked.iter().map(|one| one.resumes_at).filter(|at| *at > now);
        let deadlines = self.parked.iter().filter_map(|one| one.deadline);
        probes.chain(pauses).chain(deadlines).min()
    }
}

impl<C> Job<C> {
    /// A job that was sent again `attempts` times.
    fn new(waiting: Vec<Waiting<C>>, attempts: u32) -> Self {
        Self { waiting, attempts, probes: 0, is_patient: false, releases: None }
    }

    fn users(&self) -> BTreeSet<UserId> {
        self.waiting.iter().flat_map(|one| one.operation.users()).collect()
    }

    /// Bounds the wait of each operation from its first failure on.
    fn set_deadlines(&mut self, now: Time) {
        for one in &mut self.waiting {
            one.deadline.get_or_insert(now + WAIT_MAX);
        }
    }
}

impl<C> Waiting<C> {
    fn is_overdue(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// The versions of the locked rows, by user.
fn locked_rows(rows: &[Probed]) -> HashMap<UserId, i64> {
    let locked = rows.iter().filter(|row| !row.is_free);
    locked.filter_map(|row| Some((UserId::new(row.id)?, row.version))).collect()
}

#[cfg(test)]
mod parking;
#[cfg(test)]
mod simulation;
