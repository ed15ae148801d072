//! One run: plays a story to its end and records every answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::{Answer, Core, Response, Step, Time};
use super::story::{Ask, Event, Fault, Story};
use super::world::{Locks, Statement, World};
use crate::ledger::{Amount, Change, ChangeError, Key, UserId};
use crate::store::error::Failure;

/// The time that a request takes without a fault.
const ROUND_TRIP: Duration = Duration::from_micros(800);

/// The time-out of a silent session.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a change waits for another one with the same key.
pub(super) const KEY_WAIT: Duration = Duration::from_secs(1);

/// Far more requests than any story needs: a run that sends more does not finish.
const REQUESTS_MAX: usize = 5_000;

/// An old bug that can be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A job that runs into a lock is halved, as if its data were wrong.
    HalvesLockedJobs,
    /// A change enters the lane without the lock of its key.
    EntersWithoutKeyLock,
    /// A change that may be applied is "not applied" when its second attempt fails.
    ForgetsFirstAttempt,
    /// An unknown error counts as rolled back.
    TrustsUnknownErrors,
    /// The keys of changes whose sums leave 64 bits are not looked up.
    ReadsWithoutKeys,
}

impl Bug {
    pub(super) const ALL: [Self; 5] = [
        Self::HalvesLockedJobs,
        Self::EntersWithoutKeyLock,
        Self::ForgetsFirstAttempt,
        Self::TrustsUnknownErrors,
        Self::ReadsWithoutKeys,
    ];
}

/// A request of a client, and its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) called: Time,
    /// Exactly one, if the core is right.
    pub(super) answers: Vec<(Time, Answer)>,
}

/// The result of a run.
pub(super) struct Played {
    pub(super) asked: Vec<Asked>,
    pub(super) world: World,
    pub(super) requests: usize,
    pub(super) is_finished: bool,
}

/// An index into `asked`.
type Caller = usize;

struct Run<'a> {
    story: &'a Story,
    bug: Option<Bug>,
    now: Time,
    next_event: usize,
    core: Core<Caller>,
    queue: VecDeque<Caller>,
    asked: Vec<Asked>,
    world: World,
    /// The holder of each key's lock, followed by the callers that wait for it.
    key_locks: BTreeMap<(i64, String), VecDeque<Caller>>,
    /// Callers that share their lock with the caller right behind them.
    sharing: BTreeSet<Caller>,
    /// Statements of lost sessions that the database still carries out.
    late: Vec<(Time, Statement)>,
    requests: usize,
}

pub(super) fn play(story: &Story, bug: Option<Bug>) -> Played {
    let mut world = World::begin(story);
    world.reads_without_keys = bug == Some(Bug::ReadsWithoutKeys);
    let mut run = Run {
        story,
        bug,
        now: Duration::ZERO,
        next_event: 0,
        core: Core::new(64),
        queue: VecDeque::new(),
        asked: Vec::new(),
        world,
        key_locks: BTreeMap::new(),
        sharing: BTreeSet::new(),
        late: Vec::new(),
        requests: 0,
    };
    let is_finished = run.finish();
    run.pass(Duration::from_secs(1_000_000));
    let Run { asked, world, requests, .. } = run;
    Played { asked, world, requests, is_finished }
}

impl Run<'_> {
    /// Returns false if it takes too many requests.
    fn finish(&mut self) -> bool {
        while self.requests < REQUESTS_MAX {
            self.pass(self.now);
            while self.core.room() > 0
                && let Some(caller) = self.queue.pop_front()
            {
                self.core.arrive(change(&self.asked[caller].ask), caller);
            }
            let step = self.core.next(self.now);
            self.answer();
            match step {
                Step::Send { .. } => self.send(),
                Step::Wait { until } => {
                    let event = self.story.events.get(self.next_event).map(|(at, _)| *at);
                    let late = self.late.iter().map(|(at, _)| *at).min();
                    let key = self.waits_for_keys().map(|(_, until)| until).min();
                    let queued = (!self.queue.is_empty()).then_some(self.now);
                    match [until, event, late, key, queued].into_iter().flatten().min() {
                        Some(at) => self.now = self.now.max(at),
                        None => return true,
                    }
                }
            }
        }
        false
    }

    /// Lets all events until then happen.
    fn pass(&mut self, until: Time) {
        loop {
            let event = self.story.events.get(self.next_event).map(|(at, _)| *at);
            let late = self.late.iter().map(|(at, _)| *at).min();
            let key = self.waits_for_keys().map(|(_, until)| until).min();
            let Some(at) = [event, late, key].into_iter().flatten().min() else { break };
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.world.catch_up(at);
            if late == Some(at) {
                let index = self.late.iter().position(|(late, _)| *late == at).unwrap();
                let (_, statement) = self.late.swap_remove(index);
                // Its result reaches nobody.
                let _ = self.world.carry_out(&statement, at, None);
            } else if event == Some(at) {
                self.next_event += 1;
                self.happen(at, &self.story.events[self.next_event - 1].1);
            } else {
                self.time_out_key_waits(at);
            }
        }
        self.world.catch_up(until);
    }

    fn happen(&mut self, at: Time, event: &Event) {
        match event {
            Event::Ask(ask) => self.ask(at, ask, false),
            Event::Twice(ask) => self.ask(at, ask, true),
            Event::Other(ask) => self.world.other(ask, at),
            Event::Hold { user, time } => self.world.hold(*user, at + *time),
            Event::LockTable { time } => self.world.lock_table(at + *time),
            Event::Busy { user, time } => self.world.keep_busy(*user, at, at + *time),
        }
    }

    fn ask(&mut self, at: Time, ask: &Ask, twice: bool) {
        let caller = self.asked.len();
        for _ in 0..=usize::from(twice) {
            self.asked.push(Asked { ask: ask.clone(), called: at, answers: Vec::new() });
        }
        if twice {
            self.sharing.insert(caller);
        }
        let Some(key) = &ask.key else { return self.queue.push_back(caller) };
        let lock = self.key_locks.entry((ask.user, key.clone())).or_default();
        lock.push_back(caller);
        if lock.len() == 1 || self.bug == Some(Bug::EntersWithoutKeyLock) {
            self.enter(caller);
        }
    }

    /// A caller enters the lane, with the one that shares its lock.
    fn enter(&mut self, caller: Caller) {
        self.queue.push_back(caller);
        if self.sharing.contains(&caller) {
            self.queue.push_back(caller + 1);
        }
    }

    /// The caller that holds the lock for this one, if both are answered.
    fn releases(&self, caller: Caller) -> Option<Caller> {
        let first = match caller.checked_sub(1) {
            Some(before) if self.sharing.contains(&before) => before,
            _ => caller,
        };
        let last = first + usize::from(self.sharing.contains(&first));
        let is_answered = |caller: Caller| !self.asked[caller].answers.is_empty();
        (is_answered(first) && is_answered(last)).then_some(first)
    }

    /// The callers that wait for the lock of their key, with their deadlines.
    fn waits_for_keys(&self) -> impl Iterator<Item = (Caller, Time)> + '_ {
        let waiting = self.key_locks.values().flat_map(|lock| lock.iter().skip(1));
        waiting.map(|caller| (*caller, self.asked[*caller].called + KEY_WAIT))
    }

    fn time_out_key_waits(&mut self, now: Time) {
        let overdue = self.waits_for_keys().filter(|(_, until)| *until <= now);
        let callers: Vec<Caller> = overdue.map(|(caller, _)| caller).collect();
        for caller in callers {
            for lock in self.key_locks.values_mut() {
                lock.retain(|waiting| *waiting != caller);
            }
            let last = caller + usize::from(self.sharing.contains(&caller));
            for asked in &mut self.asked[caller..=last] {
                asked.answers.push((now, Err(ChangeError::KeyInProgress)));
            }
        }
    }

    fn answer(&mut self) {
        let answers: Vec<_> = self.core.take_answers().collect();
        for (caller, answer) in answers {
            let Asked { ask, answers, .. } = &mut self.asked[caller];
            let timed_out =
                answers.iter().any(|(_, answer)| matches!(answer, Err(ChangeError::KeyInProgress)));
            if self.bug == Some(Bug::EntersWithoutKeyLock) && timed_out {
                // The caller is gone.
                continue;
            }
            answers.push((self.now, answer));
            let Some(key) = &ask.key else { continue };
            let name = (ask.user, key.clone());
            let Some(holder) = self.releases(caller) else { continue };
            let Some(lock) = self.key_locks.get_mut(&name) else { continue };
            lock.retain(|waiting| *waiting != holder);
            match lock.front().copied() {
                Some(next) if self.bug != Some(Bug::EntersWithoutKeyLock) => self.enter(next),
                Some(_) => {}
                None => drop(self.key_locks.remove(&name)),
            }
        }
    }

    fn send(&mut self) {
        let statement = Statement::of(&self.core.request().expect("there is something to send"));
        let fault = self.story.faults.iter().find(|(number, _)| *number == self.requests);
        let fault = fault.map(|(_, fault)| fault.clone());
        self.requests += 1;
        let result = self.serve(&statement, fault.as_ref());
        if self.bug == Some(Bug::ForgetsFirstAttempt) {
            self.core.forget_attempts();
        }
        self.core.on(self.now, result);
        self.answer();
    }

    fn serve(&mut self, statement: &Statement, fault: Option<&Fault>) -> Result<Response, Failure> {
        self.pass(self.now + ROUND_TRIP / 2);
        self.now += ROUND_TRIP / 2;
        let lost = |why: &str| Failure::Unknown(why.into());
        match fault {
            Some(Fault::Unreachable) => return Err(Failure::Unreachable("unreachable".into())),
            Some(Fault::NotSent) => return Err(Failure::NotSent("broken before".into())),
            Some(Fault::Lost) => return Err(lost("never carried out")),
            Some(Fault::LostUntil(time)) => {
                let until = self.now + *time;
                for user in statement.users() {
                    self.world.hold(user, until);
                }
                self.late.push((until, statement.clone()));
                self.wait(SILENCE);
                return Err(lost("silent"));
            }
            Some(Fault::Code { code, applied: false }) => return Err(self.classify(code)),
            Some(Fault::Slow(time)) => self.wait(*time),
            Some(Fault::LostAnswer | Fault::Code { .. } | Fault::Meanwhile(_)) | None => {}
        }
        match self.world.locks(statement, self.now) {
            Locks::At(at) => self.wait_until(at),
            Locks::TimeOut(at) => {
                self.wait_until(at);
                return Err(self.classify("55P03"));
            }
        }
        let meanwhile = match fault {
            Some(Fault::Meanwhile(ask)) => Some(ask),
            _ => None,
        };
        let result = self.world.carry_out(statement, self.now, meanwhile);
        self.wait(ROUND_TRIP / 2);
        match (fault, result) {
            (Some(Fault::LostAnswer), _) => Err(lost("the answer is lost")),
            (Some(Fault::Code { code, .. }), _) => Err(self.classify(code)),
            (_, Err(code)) => Err(self.classify(code)),
            (_, Ok(response)) => Ok(response),
        }
    }

    fn wait(&mut self, time: Time) {
        self.wait_until(self.now + time);
    }

    fn wait_until(&mut self, at: Time) {
        self.pass(at);
        self.now = self.now.max(at);
    }

    /// The real classification, apart from the bug that is put back.
    fn classify(&self, code: &str) -> Failure {
        let failure = Failure::by_sqlstate(code, code);
        match (self.bug, failure) {
            (Some(Bug::HalvesLockedJobs), Failure::Locked(cause)) => {
                Failure::Data(ChangeError::NotApplied(cause))
            }
            (Some(Bug::TrustsUnknownErrors), Failure::Unknown(cause)) => {
                Failure::Final(ChangeError::NotApplied(cause))
            }
            (_, failure) => failure,
        }
    }
}

fn change(ask: &Ask) -> Change {
    Change {
        user: UserId::new(ask.user).unwrap(),
        amount: Amount::new(ask.amount).unwrap(),
        key: ask.key.as_deref().map(|key| Key::new(key).unwrap()),
        reference: None,
    }
}
