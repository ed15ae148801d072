//! The core against a simulated database, with failures at every point.
//!
//! A run has some transfers between a few users, rows that others keep locked for a while, and requests
//! that fail in all ways. Each transfer has a reference of its own, so the journal of the simulated
//! database tells how often it was applied. At the end every caller has one answer, and it is true.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fastrand::Rng;

use super::super::books::Books;
use super::super::decide::decide;
use super::*;
use crate::ledger::{Funds, Key, Payment, Position, Reference, Timestamp, Transfer};
use crate::store::keys::Stored;
use crate::store::posting::UserRow;

const USERS: i64 = 6;
const OPENING: i64 = 20;
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// No answer takes longer: the wait, the last attempts before it, and a session that stays silent.
const ANSWER_MAX: Duration = Duration::from_secs(18);

/// Old bugs that can be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// An unknown outcome counts as rolled back.
    TrustsUnknown,
    /// An operation whose row is held is sent again and again with all others.
    ForgetsHeld,
}

struct World {
    random: Rng,
    users: HashMap<UserId, UserRow>,
    keys: HashMap<(UserId, Key), Stored>,
    /// Each applied transfer, with payer and payee right after it.
    journal: BTreeMap<usize, Vec<(Position, Position)>>,
    /// Rows that others keep locked, until when, and whether they keep changing hands.
    locked: BTreeMap<UserId, (Time, bool)>,
    /// How many of a thousand requests fail.
    faults: u32,
    /// Data that the database rejects.
    poisoned: Option<usize>,
}

impl World {
    fn new(random: Rng) -> Self {
        let row = |id| {
            let (user, funds) = (user(id), Funds { balance: OPENING, held: 0 });
            (user, UserRow { user, funds, version: 0 })
        };
        let users = (1..=USERS).map(row).collect();
        let (keys, journal, locked) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { random, users, keys, journal, locked, faults: 0, poisoned: None }
    }

    fn is_locked(&self, user: UserId, now: Time) -> bool {
        self.locked.get(&user).is_some_and(|(until, _)| *until > now)
    }

    /// Executes a request, and returns when its result comes, and the result.
    fn execute(&mut self, request: &Request<'_>, now: Time) -> (Time, Result<Response, Failure>) {
        let took = Duration::from_millis(self.random.u64(1..4));
        match request {
            Request::ReleaseHolds { .. } => (now + took, Ok(Response::ReleaseHolds)),
            Request::Probe(users) => (now + took, self.fails().map(|()| self.probe(users, now))),
            Request::Batch { operations, is_patient } => {
                let wait = LOCK_WAIT * if *is_patient { 5 } else { 1 };
                let users: BTreeSet<UserId> =
                    operations.iter().flat_map(|operation| operation.users()).collect();
                let held = users.iter().filter(|user| self.is_locked(**user, now));
                let frees: Option<Time> = held.map(|user| self.frees_at(*user, now)).max();
                if let Some(frees) = frees
                    && frees > now + wait
                {
                    return (now + wait, Err(Failure::Locked("held".into())));
                }
                let now = frees.unwrap_or(now) + took;
                (now, self.decide(operations))
            }
        }
    }

    /// A row that keeps changing hands is free for somebody patient.
    fn frees_at(&self, user: UserId, now: Time) -> Time {
        let (until, is_busy) = self.locked[&user];
        if is_busy { until.min(now + 2 * LOCK_WAIT) } else { until }
    }

    fn probe(&mut self, users: &[UserId], now: Time) -> Response {
        let probed = |user: &UserId| {
            let row = self.users.get(user)?;
            let is_busy = self.locked.get(user).is_some_and(|(_, is_busy)| *is_busy);
            let version = if is_busy { now.as_millis() } else { 0 };
            let version = row.version + i64::try_from(version).unwrap();
            Some(Probed { id: user.get(), version, is_free: !self.is_locked(*user, now) })
        };
        Response::Probe(users.iter().filter_map(probed).collect())
    }

    /// A failure before anything was committed.
    fn fails(&mut self) -> Result<(), Failure> {
        if self.random.u32(0..1_000) >= self.faults {
            return Ok(());
        }
        let cause = || "simulated".into();
        Err(match self.random.u8(0..5) {
            0 => Failure::Race(cause()),
            1 => Failure::NotSent(cause()),
            2 => Failure::Unreachable(cause()),
            3 => Failure::Unknown(cause()),
            _ => Failure::Final(ChangeError::NotApplied(cause())),
        })
    }

    fn decide(&mut self, operations: &[&Operation]) -> Result<Response, Failure> {
        self.fails()?;
        if operations.iter().any(|operation| Some(number(operation)) == self.poisoned) {
            return Err(Failure::Data(ChangeError::BalanceOutOfRange));
        }
        let books = Books {
            stamp: Timestamp::from_micros(0),
            users: self.users.clone(),
            with_expired_holds: BTreeSet::new(),
            holds: HashMap::new(),
            keys: self.keys.clone(),
        };
        let (decided, posting) = decide(books, operations.iter().copied());
        for row in &posting.users {
            self.users.insert(row.user, *row);
        }
        for row in &posting.keys {
            let stored = Stored::from_columns(row.fingerprint.clone(), row.answer.clone());
            self.keys.insert((row.user, Key::new(row.key).unwrap()), stored);
        }
        for pair in posting.entries.chunks(2) {
            let place =
                |row: &UserRow| Position { balance: row.funds.balance, version: row.version };
            let number = pair[0].reference.unwrap().parse().unwrap();
            let sides = (place(&pair[0].after), place(&pair[1].after));
            self.journal.entry(number).or_default().push(sides);
        }
        // The commit may have happened, and its answer be lost.
        if self.random.u32(0..1_000) < self.faults {
            return Err(Failure::Unknown("the answer is lost".into()));
        }
        Ok(Response::Batch(decided))
    }
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// The number of a transfer, which is its reference.
fn number(operation: &Operation) -> usize {
    let Operation::Transfer(transfer) = operation else { unreachable!("only transfers are sent") };
    transfer.reference.as_ref().unwrap().as_str().parse().unwrap()
}

struct Run {
    world: World,
    core: Core<usize>,
    asked: Vec<(Time, Operation)>,
    answers: BTreeMap<usize, (Time, Answer)>,
    bug: Option<Bug>,
}

impl Run {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut world = World::new(random.fork());
        world.faults = *random.choice(&[0, 0, 30, 200]).unwrap();
        let mut asked = Vec::new();
        for number in 0..random.usize(1..40) {
            let at = Duration::from_millis(random.u64(0..400));
            asked.push((at, any_transfer(&mut random, number)));
        }
        asked.sort_by_key(|(at, _)| *at);
        world.poisoned = random.bool().then(|| random.usize(0..80));
        for _ in 0..random.usize(0..3) {
            let until = Duration::from_millis(*random.choice(&[50, 400, 3_000, 60_000]).unwrap());
            world.locked.insert(user(random.i64(1..=USERS)), (until, random.bool()));
        }
        Self { world, core: Core::new(1_000), asked, answers: BTreeMap::new(), bug }
    }

    fn play(&mut self) -> Result<(), String> {
        let mut now = Time::ZERO;
        let mut next = 0;
        for _ in 0..20_000 {
            while next < self.asked.len() && self.asked[next].0 <= now {
                self.core.arrive(self.asked[next].1.clone(), next);
                next += 1;
            }
            let step = self.core.next(now);
            self.take_answers(now)?;
            match step {
                Step::Send { .. } => now = self.send(now)?,
                Step::Wait { until } => {
                    let arrival = self.asked.get(next).map(|(at, _)| *at);
                    let Some(wake) = until.into_iter().chain(arrival).min() else {
                        return self.check();
                    };
                    if wake <= now && arrival != Some(wake) {
                        return Err(format!("it wakes for nothing, at {now:?}"));
                    }
                    now = now.max(wake);
                }
            }
        }
        Err("it never ends".into())
    }

    fn send(&mut self, now: Time) -> Result<Time, String> {
        let request = self.core.request().ok_or("a step without a request")?;
        let (after, mut result) = self.world.execute(&request, now);
        drop(request);
        if self.bug == Some(Bug::TrustsUnknown)
            && let Err(Failure::Unknown(cause)) = result
        {
            result = Err(Failure::NotSent(cause));
        }
        if self.bug == Some(Bug::ForgetsHeld) && matches!(result, Ok(Response::Probe(_))) {
            result = Ok(Response::Probe(Vec::new()));
        }
        self.core.on(after, result);
        self.take_answers(after)?;
        Ok(after)
    }

    fn take_answers(&mut self, now: Time) -> Result<(), String> {
        let answers: Vec<_> = self.core.take_answers().collect();
        for (caller, answer) in answers {
            if self.answers.insert(caller, (now, answer)).is_some() {
                return Err(format!("{caller} is answered twice"));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        for (caller, (at, operation)) in self.asked.iter().enumerate() {
            let (answered, answer) =
                self.answers.get(&caller).ok_or(format!("{caller} is not answered"))?;
            let context = |what| format!("{what}: {operation:?}: {answer:?}");
            let waited = *answered - *at;
            if waited > ANSWER_MAX {
                return Err(context(format!("it took {waited:?}")));
            }
            let is_sound = self.world.faults == 0 && self.world.poisoned.is_none();
            let needs_locked = operation.users().any(|user| self.world.locked.contains_key(&user));
            // Two rows are locked at most, each may hold up a batch or two.
            if is_sound && !needs_locked && waited > Duration::from_secs(2) {
                return Err(context(format!("somebody else's row made it wait for {waited:?}")));
            }
            let applied = self.world.journal.get(&number(operation)).map_or(&[][..], Vec::as_slice);
            check_answer(answer, applied).map_err(|what| context(what.to_owned()))?;
        }
        let sum: i64 = self.world.users.values().map(|row| row.funds.balance).sum();
        if sum != USERS * OPENING {
            return Err(format!("the sum is {sum}"));
        }
        Ok(())
    }
}

fn check_answer(answer: &Answer, applied: &[(Position, Position)]) -> Result<(), &'static str> {
    if applied.len() > 1 {
        return Err("applied twice");
    }
    match (answer, applied.first()) {
        (Ok(Outcome { decision: OperationDecision::Transferred { from, to }, .. }), applied) => {
            if applied != Some(&(*from, *to)) {
                return Err("another answer than the journal's");
            }
        }
        (Err(ChangeError::OutcomeUnknown(_)), _) | (_, None) => {}
        (_, Some(_)) => return Err("applied, and not answered so"),
    }
    Ok(())
}

fn any_transfer(random: &mut Rng, number: usize) -> Operation {
    let from = random.i64(1..=USERS);
    let to = (from + random.i64(0..USERS - 1)) % USERS + 1;
    let key = random.bool().then(|| Key::new(&format!("k{number}"))).flatten();
    Operation::Transfer(Transfer {
        from: user(from),
        to: user(to),
        amount: Payment::new(random.i64(1..15)).unwrap(),
        key,
        reference: Reference::new(&number.to_string()),
    })
}

fn play(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut run = Run::new(seed, bug);
    run.play().map_err(|what| format!("seed {seed}: {what}"))
}

#[test]
fn every_answer_is_true_whatever_fails() {
    for seed in 0..20_000 {
        if let Err(what) = play(seed, None) {
            panic!("{what}");
        }
    }
}

#[test]
fn each_old_bug_is_found() {
    for bug in [Bug::TrustsUnknown, Bug::ForgetsHeld] {
        assert!((0..2_000).any(|seed| play(seed, Some(bug)).is_err()), "{bug:?}");
    }
}
