//! A pool of sessions that is fair between users.
//!
//! Whoever waits for a session waits in the line of its user, and the lines take turns. So ten
//! thousand changes of one user delay a change of another by one turn and not by ten thousand. And
//! one user has at most half of the sessions at a time: the other half goes on where a row of that
//! user is held by somebody.
//!
//! The sessions belong to the runtime on which they are used (see [`Sessions`](super::sessions::Sessions)). They are
//! opened at start; one that was lost is opened anew by whoever gets its place.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::error::Failure;
use super::session::{Connector, Session};
use crate::ledger::UserId;

/// How many may wait in all. Room for every HTTP connection; beyond it is somebody who hangs up and
/// comes again.
const WAITING_MAX: usize = 16_384;

/// For whom a session is wanted; `None` for what concerns no one user.
pub type Whose = Option<UserId>;

/// Why there is no session. Nothing was sent.
#[derive(Debug, Error)]
pub enum NoSession {
    /// All of them were in use for too long.
    #[error("no database session was free in time")]
    TimedOut,
    /// Too many wait already.
    #[error("too many wait for a database session")]
    TooMany,
    /// The database lets nobody in.
    #[error("no database session could be opened")]
    Unreachable,
    /// The service is stopping.
    #[error("the service is stopping")]
    Closed,
}

/// A pool. Clones share it.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: Connector,
    size: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Sessions that nobody uses. The last one in is the first one out, so it is the least rested.
    idle: Vec<Session>,
    /// Places that nobody has; a place is the right to one session.
    free: usize,
    /// Sessions that are open, in use or idle.
    open: usize,
    lines: HashMap<Whose, Line>,
    /// The lines that may get the next place, in turn: somebody waits, and the share is not used up.
    turns: VecDeque<Whose>,
    waiting: usize,
    is_closed: bool,
}

/// Those who want a session for one user.
#[derive(Debug, Default)]
struct Line {
    /// Places that it has.
    busy: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    in_turns: bool,
}

impl Pool {
    /// A pool that opens its sessions as they are needed; see [`fill`](Self::fill).
    pub fn new(connector: Connector, size: usize) -> Self {
        let state = State {
            idle: Vec::with_capacity(size),
            free: size,
            open: 0,
            lines: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            is_closed: false,
        };
        Self(Arc::new(Shared { connector, size, state: Mutex::new(state) }))
    }

    /// Opens all sessions, one by one: a storm of connects on a Unix socket fails with `EAGAIN`, and
    /// the first burst must not pay for them.
    ///
    /// # Errors
    /// As the database says.
    pub async fn fill(&self) -> Result<(), sqlx::Error> {
        for _ in 0..self.0.size {
            let session = self.0.connector.open().await?;
            let mut state = self.0.lock();
            state.idle.push(session);
            state.open += 1;
        }
        Ok(())
    }

    /// A session for `whose`, within `wait`.
    ///
    /// # Errors
    /// [`Failure::NotSent`] where none was free in time and [`Failure::Unreachable`] where none can
    /// be opened.
    pub async fn lease(&self, whose: Whose, wait: Duration) -> Result<Lease, Failure> {
        let place = self.place(whose, wait).await.map_err(|none| match none {
            NoSession::Unreachable => Failure::Unreachable(none.into()),
            _ => Failure::NotSent(none.into()),
        })?;
        self.enter(place).await
    }

    async fn place(&self, whose: Whose, wait: Duration) -> Result<Place, NoSession> {
        let granted = match self.0.ask(whose)? {
            Asked::Place(place) => return Ok(place),
            Asked::Wait(granted) => granted,
        };
        match timeout(wait, granted).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) if self.0.lock().is_closed => Err(NoSession::Closed),
            Ok(Err(_)) => Err(NoSession::Unreachable),
            Err(_) => Err(NoSession::TimedOut),
        }
    }

    /// From a place to a session: one that rests and is still there, or a new one.
    async fn enter(&self, place: Place) -> Result<Lease, Failure> {
        let mut lease = Lease { session: None, is_open: false, place };
        let idle = self.0.lock().idle.pop();
        if let Some(mut session) = idle {
            lease.is_open = true;
            if session.check().await.is_ok() {
                lease.session = Some(session);
                return Ok(lease);
            }
            lease.is_open = false;
            self.0.lock().open -= 1;
        }
        match self.0.connector.open().await {
            Ok(session) => {
                self.0.lock().open += 1;
                lease.is_open = true;
                lease.session = Some(session);
                Ok(lease)
            }
            Err(error) => {
                // Nobody else would fare better, and each attempt may take long.
                let turned_away = self.0.lock().turn_away_if_none_is_open();
                drop(turned_away);
                Err(Failure::Unreachable(error.into()))
            }
        }
    }

    /// Lets nobody in any more, waits for `limit` at most until all places are free again, and
    /// closes all sessions that are idle then. Those that are still in use end with their work.
    pub async fn close(&self, limit: Duration) {
        /// How often to look; this happens once.
        const STEP: Duration = Duration::from_millis(5);
        let turned_away = self.0.lock().close();
        drop(turned_away);
        let give_up = Instant::now() + limit;
        while self.0.lock().free < self.0.size && Instant::now() < give_up {
            sleep(STEP).await;
        }
        let idle = std::mem::take(&mut self.0.lock().idle);
        futures_util::future::join_all(idle.into_iter().map(Session::close)).await;
    }
}

enum Asked {
    Place(Place),
    Wait(oneshot::Receiver<Place>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places one line may have.
    fn share(&self, whose: Whose) -> usize {
        if whose.is_some() { (self.size / 2).max(1) } else { self.size }
    }

    fn ask(self: &Arc<Self>, whose: Whose) -> Result<Asked, NoSession> {
        let share = self.share(whose);
        let mut state = self.lock();
        let state = &mut *state;
        if state.is_closed {
            return Err(NoSession::Closed);
        }
        let line = state.lines.entry(whose).or_default();
        let may_enter = line.busy < share;
        if state.free > 0 && may_enter && line.waiting.is_empty() {
            line.busy += 1;
            state.free -= 1;
            return Ok(Asked::Place(Place { pool: Some(Arc::clone(self)), whose }));
        }
        if state.waiting >= WAITING_MAX {
            state.forget_if_empty(whose);
            return Err(NoSession::TooMany);
        }
        let (grant, granted) = oneshot::channel();
        line.waiting.push_back(grant);
        state.waiting += 1;
        if may_enter && !line.in_turns {
            line.in_turns = true;
            state.turns.push_back(whose);
        }
        Ok(Asked::Wait(granted))
    }

    /// A place comes back, and goes to whoever's turn it is.
    fn free(self: &Arc<Self>, whose: Whose) {
        let mut state = self.lock();
        let state = &mut *state;
        state.free += 1;
        if let Some(line) = state.lines.get_mut(&whose) {
            line.busy -= 1;
            if !line.waiting.is_empty() && !line.in_turns {
                line.in_turns = true;
                state.turns.push_back(whose);
            }
        }
        state.forget_if_empty(whose);
        while state.free > 0
            && let Some(next) = state.turns.pop_front()
        {
            self.grant(state, next);
        }
    }

    /// Gives a place to the first of a line who still waits.
    fn grant(self: &Arc<Self>, state: &mut State, whose: Whose) {
        let share = self.share(whose);
        let Some(line) = state.lines.get_mut(&whose) else { return };
        line.in_turns = false;
        while let Some(grant) = line.waiting.pop_front() {
            state.waiting -= 1;
            match grant.send(Place { pool: Some(Arc::clone(self)), whose }) {
                Ok(()) => {
                    line.busy += 1;
                    state.free -= 1;
                    break;
                }
                // Nobody waits there any more. This place was never taken.
                Err(mut place) => place.pool = None,
            }
        }
        if line.busy < share && !line.waiting.is_empty() {
            line.in_turns = true;
            state.turns.push_back(whose);
        }
        state.forget_if_empty(whose);
    }
}

impl State {
    fn forget_if_empty(&mut self, whose: Whose) {
        if self.lines.get(&whose).is_some_and(|line| line.busy == 0 && line.waiting.is_empty()) {
            self.lines.remove(&whose);
        }
    }

    /// All who wait, where no session is open. To be dropped without the lock.
    fn turn_away_if_none_is_open(&mut self) -> Vec<oneshot::Sender<Place>> {
        if self.open > 0 { Vec::new() } else { self.turn_away() }
    }

    fn close(&mut self) -> Vec<oneshot::Sender<Place>> {
        self.is_closed = true;
        self.turn_away()
    }

    fn turn_away(&mut self) -> Vec<oneshot::Sender<Place>> {
        self.waiting = 0;
        self.turns.clear();
        let mut turned_away = Vec::new();
        self.lines.retain(|_, line| {
            line.in_turns = false;
            turned_away.extend(line.waiting.drain(..));
            line.busy > 0
        });
        turned_away
    }
}

/// The right to one session of the pool, until it is dropped.
#[derive(Debug)]
struct Place {
    pool: Option<Arc<Shared>>,
    whose: Whose,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.free(self.whose);
        }
    }
}

/// A session for one piece of work. Dropped without [`put_back`](Self::put_back), it closes the
/// session and frees the place.
#[derive(Debug)]
pub struct Lease {
    session: Option<Session>,
    /// It counts among those that are open.
    is_open: bool,
    place: Place,
}

impl Lease {
    /// The session, to be put back after its work. There is one the first time.
    pub fn take(&mut self) -> Option<Session> {
        self.session.take()
    }

    /// Gives the place back; with the session, if it is still of use.
    pub fn put_back(mut self, session: Option<Session>) {
        self.session = session;
    }
}

impl Drop for Lease {
    /// The place follows by itself, and finds the session idle.
    fn drop(&mut self) {
        let Some(pool) = self.place.pool.as_ref().filter(|_| self.is_open) else { return };
        let mut state = pool.lock();
        match self.session.take() {
            Some(session) if !state.is_closed => state.idle.push(session),
            _ => state.open -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use sqlx::postgres::PgConnectOptions;

    use super::*;
    use crate::store::session::SessionLimits;

    const LONG: Duration = Duration::from_secs(60);
    const A: Whose = UserId::new(1);
    const B: Whose = UserId::new(2);

    /// Places only: nobody enters, so nothing is opened.
    fn pool(size: usize) -> Pool {
        let limits = SessionLimits { answer: LONG, lock_wait: LONG };
        Pool::new(Connector::new(PgConnectOptions::new_without_pgpass(), limits), size)
    }

    /// Asks for places in this order, and tells in which order they are given out, one at a time.
    async fn order_of(
        pool: &Pool,
        first: Place,
        wanted: &'static [(&'static str, Whose)],
    ) -> String {
        let (told, mut order) = tokio::sync::mpsc::channel(wanted.len());
        for (name, whose) in wanted {
            let (pool, told, whose) = (pool.clone(), told.clone(), *whose);
            tokio::spawn(async move {
                let place = pool.place(whose, LONG).await.unwrap();
                told.send(*name).await.unwrap();
                drop(place);
            });
            tokio::task::yield_now().await;
        }
        drop((told, first));
        let mut names = String::new();
        while let Some(name) = order.recv().await {
            names += name;
        }
        names
    }

    #[tokio::test]
    async fn users_take_turns_and_within_a_user_the_first_comes_first() {
        let pool = pool(1);
        let place = pool.place(None, LONG).await.unwrap();
        let order = order_of(
            &pool,
            place,
            &[("a", A), ("b", A), ("c", A), ("x", B), ("y", B), ("-", None)],
        );
        assert_eq!(order.await, "ax-byc");
        let state = pool.0.lock();
        assert_eq!((state.free, state.waiting, state.lines.len()), (1, 0, 0));
    }

    #[tokio::test]
    async fn one_user_has_half_of_the_places_at_most() {
        let pool = pool(4);
        let _first = pool.place(A, LONG).await.unwrap();
        let second = pool.place(A, LONG).await.unwrap();
        assert!(pool.place(A, LONG).now_or_never().is_none(), "a third has to wait");
        let _other = pool.place(B, LONG).now_or_never().expect("the rest is for others").unwrap();
        let _no_one = pool.place(None, LONG).now_or_never().expect("and for no one user").unwrap();
        drop(second);
        let again = pool.place(A, LONG).now_or_never();
        assert!(again.is_some_and(|place| place.is_ok()), "its share is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_bounded_and_takes_no_place_with_it() {
        let pool = pool(1);
        let place = pool.place(A, LONG).await.unwrap();
        assert!(matches!(pool.place(B, LONG).await, Err(NoSession::TimedOut)));
        assert!(pool.place(B, LONG).now_or_never().is_none(), "one that is given up at once");
        drop(place);
        assert!(pool.place(B, LONG).now_or_never().is_some(), "nobody took it who is gone");
        assert_eq!(pool.0.lock().free, 1);
    }

    #[tokio::test]
    async fn who_waits_when_it_closes_is_told_so_and_nobody_comes_after() {
        let pool = pool(1);
        let place = pool.place(A, LONG).await.unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.place(B, LONG).await.map(drop) }
        });
        tokio::task::yield_now().await;
        let closing = tokio::spawn({
            let pool = pool.clone();
            async move { pool.close(LONG).await }
        });
        assert!(matches!(waiting.await.unwrap(), Err(NoSession::Closed)));
        assert!(matches!(pool.place(A, LONG).await, Err(NoSession::Closed)));
        assert!(!closing.is_finished(), "it waits for the one that is out");
        drop(place);
        closing.await.unwrap();
    }
}
