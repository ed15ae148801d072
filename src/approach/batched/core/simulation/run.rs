//! One run: a story is played to its end, and everybody's answer is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::{Answer, Core, Response, Step, Time};
use super::story::{Ask, Event, Fault, Story};
use super::world::{Locks, Statement, World};
use crate::ledger::{Amount, Change, ChangeError, Key, UserId};
use crate::store::error::Failure;

/// What a request takes when nothing happens to it.
const ROUND_TRIP: Duration = Duration::from_micros(800);

/// How long a silent session is waited for.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a change waits for another one with the same key.
pub(super) const KEY_WAIT: Duration = Duration::from_secs(1);

/// Far more requests than any story needs.
const REQUESTS_MAX: usize = 5_000;

/// A bug that was there once, put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// What a lock time-out stops is halved, as if the data were wrong.
    HalvesWhatIsLocked,
    /// A change enters the lane before the turn of its key has come.
    EntersBeforeItsTurn,
    /// What may have been applied is "not applied" when its second attempt fails.
    ForgetsTheFirstAttempt,
    /// An error that is not known counts as rolled back.
    TrustsUnknownErrors,
    /// Changes whose sums leave 64 bits do not ask for their keys.
    ReadsWithoutKeys,
}

impl Bug {
    pub(super) const ALL: [Self; 5] = [
        Self::HalvesWhatIsLocked,
        Self::EntersBeforeItsTurn,
        Self::ForgetsTheFirstAttempt,
        Self::TrustsUnknownErrors,
        Self::ReadsWithoutKeys,
    ];
}

/// A request and its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) called: Time,
    /// All that it was answered; one, if everything is right.
    pub(super) answers: Vec<(Time, Answer)>,
}

/// Everything that is known after a run.
pub(super) struct Played {
    pub(super) asked: Vec<Asked>,
    pub(super) world: World,
    pub(super) requests: usize,
    pub(super) went_on_for_ever: bool,
}

/// A number in `asked`.
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
    /// Who works on a key, and who waits for it.
    turns: BTreeMap<(i64, String), VecDeque<Caller>>,
    /// Statements of lost sessions that are still carried out.
    late: Vec<(Time, Statement)>,
    requests: usize,
}

pub(super) fn play(story: &Story, bug: Option<Bug>) -> Played {
    let mut world = World::begin(story);
    world.reading_asks_for_no_keys = bug == Some(Bug::ReadsWithoutKeys);
    let mut run = Run {
        story,
        bug,
        now: Duration::ZERO,
        next_event: 0,
        core: Core::new(64),
        queue: VecDeque::new(),
        asked: Vec::new(),
        world,
        turns: BTreeMap::new(),
        late: Vec::new(),
        requests: 0,
    };
    let went_on_for_ever = !run.finish();
    run.pass(Duration::from_secs(1_000_000));
    let Run { asked, world, requests, .. } = run;
    Played { asked, world, requests, went_on_for_ever }
}

impl Run<'_> {
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
                    let turn = self.waits_for_turns().map(|(_, until)| until).min();
                    let queued = (!self.queue.is_empty()).then_some(self.now);
                    match [until, event, late, turn, queued].into_iter().flatten().min() {
                        Some(at) => self.now = self.now.max(at),
                        None => return true,
                    }
                }
            }
        }
        false
    }

    /// Lets everything happen that happens until then.
    fn pass(&mut self, until: Time) {
        loop {
            let event = self.story.events.get(self.next_event).map(|(at, _)| *at);
            let late = self.late.iter().map(|(at, _)| *at).min();
            let turn = self.waits_for_turns().map(|(_, at)| at).min();
            let Some(at) = [event, late, turn].into_iter().flatten().min() else { break };
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.world.catch_up(at);
            if late == Some(at) {
                let index = self.late.iter().position(|(late, _)| *late == at).unwrap();
                let (_, statement) = self.late.swap_remove(index);
                // Nobody hears how it ended.
                let _ = self.world.carry_out(&statement, at, None);
            } else if event == Some(at) {
                self.next_event += 1;
                self.happen(at, &self.story.events[self.next_event - 1].1);
            } else {
                self.give_up_turns(at);
            }
        }
        self.world.catch_up(until);
    }

    fn happen(&mut self, at: Time, event: &Event) {
        match event {
            Event::Ask(ask) => {
                let caller = self.asked.len();
                self.asked.push(Asked { ask: ask.clone(), called: at, answers: Vec::new() });
                let Some(key) = &ask.key else { return self.queue.push_back(caller) };
                let turn = self.turns.entry((ask.user, key.clone())).or_default();
                turn.push_back(caller);
                if turn.len() == 1 || self.bug == Some(Bug::EntersBeforeItsTurn) {
                    self.queue.push_back(caller);
                }
            }
            Event::Other(ask) => self.world.other(ask, at),
            Event::Hold { user, time } => self.world.hold(*user, at + *time),
            Event::LockTable { time } => self.world.lock_table(at + *time),
            Event::Busy { user, time } => self.world.keep_busy(*user, at, at + *time),
        }
    }

    /// Those who wait for the turn of their key, and for how long yet.
    fn waits_for_turns(&self) -> impl Iterator<Item = (Caller, Time)> + '_ {
        let waiting = self.turns.values().flat_map(|turn| turn.iter().skip(1));
        waiting.map(|caller| (*caller, self.asked[*caller].called + KEY_WAIT))
    }

    fn give_up_turns(&mut self, now: Time) {
        let over: Vec<Caller> =
            self.waits_for_turns().filter(|(_, until)| *until <= now).map(|(who, _)| who).collect();
        for caller in over {
            for turn in self.turns.values_mut() {
                turn.retain(|waiting| *waiting != caller);
            }
            self.asked[caller].answers.push((now, Err(ChangeError::KeyInProgress)));
        }
    }

    fn answer(&mut self) {
        let answers: Vec<_> = self.core.take_answers().collect();
        for (caller, answer) in answers {
            let Asked { ask, answers, .. } = &mut self.asked[caller];
            let told_already =
                answers.iter().any(|(_, answer)| matches!(answer, Err(ChangeError::KeyInProgress)));
            if self.bug == Some(Bug::EntersBeforeItsTurn) && told_already {
                // Nobody listens any more.
                continue;
            }
            answers.push((self.now, answer));
            let Some(key) = &ask.key else { continue };
            let name = (ask.user, key.clone());
            let Some(turn) = self.turns.get_mut(&name) else { continue };
            turn.retain(|working| *working != caller);
            match turn.front() {
                Some(next) if self.bug != Some(Bug::EntersBeforeItsTurn) => {
                    self.queue.push_back(*next);
                }
                Some(_) => {}
                None => drop(self.turns.remove(&name)),
            }
        }
    }

    fn send(&mut self) {
        let statement = Statement::of(&self.core.request().expect("there is something to send"));
        let fault = self.story.faults.iter().find(|(number, _)| *number == self.requests);
        let fault = fault.map(|(_, fault)| fault.clone());
        self.requests += 1;
        let ended = self.serve(&statement, fault.as_ref());
        if self.bug == Some(Bug::ForgetsTheFirstAttempt) {
            self.core.forget_attempts();
        }
        self.core.on(self.now, ended);
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
            Locks::Never(at) => {
                self.wait_until(at);
                return Err(self.classify("55P03"));
            }
        }
        let meanwhile = match fault {
            Some(Fault::Meanwhile(ask)) => Some(ask),
            _ => None,
        };
        let ended = self.world.carry_out(statement, self.now, meanwhile);
        self.wait(ROUND_TRIP / 2);
        match (fault, ended) {
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

    /// The real classification, unless a bug is put back.
    fn classify(&self, code: &str) -> Failure {
        let failure = Failure::by_sqlstate(code, code);
        match (self.bug, failure) {
            (Some(Bug::HalvesWhatIsLocked), Failure::Locked(cause)) => {
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
