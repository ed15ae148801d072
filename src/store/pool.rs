//! A pool of sessions that is fair between users.
//!
//! Each user has a line of waiting requests, and places are granted to the lines round robin. So ten
//! thousand changes of one user delay a change of another user by one place and not by ten thousand.
//! And one user has at most half of the sessions at a time: where its row is held, the other half
//! still serves the other users.
//!
//! The sessions belong to the runtime on which they are used (see
//! [`Sessions`](super::sessions::Sessions)). They are opened at start. A lost session is replaced when
//! its place is used next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::error::Failure;
use super::session::{Connector, Session};
use super::share::share_of;
use crate::ledger::{ChangeError, UserId};
use crate::metrics::sessions::PoolUse;

/// The most requests that wait: one of each HTTP connection, where there are as many as by default. One
/// owner has a share of these places, as in every queue.
const WAITING_MAX: usize = 16_384;

/// The user that a session is used for; `None` for work that concerns no single user.
pub type Owner = Option<UserId>;

/// Why a request got no place. Nothing was sent.
#[derive(Debug, Error)]
pub enum NoPlace {
    /// All sessions were in use for too long.
    #[error("no database session was free in time")]
    TimedOut,
    /// Too many requests wait already, or too many of this owner.
    #[error("too many wait for a database session")]
    TooMany,
    /// The database accepts no session.
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
    /// Unused sessions. The last one in is the first one out, since it has rested for the shortest
    /// time.
    idle: Vec<Session>,
    /// The number of free places. A place is the right to one session.
    free: usize,
    /// The number of open sessions, in use or idle.
    open: usize,
    lines: HashMap<Owner, Line>,
    /// The owners that may get the next place, round robin: their line is not empty, and their share is
    /// not used up.
    eligible: VecDeque<Owner>,
    waiting: usize,
    is_closed: bool,
}

/// The requests for one owner.
#[derive(Debug, Default)]
struct Line {
    /// The number of places in use.
    busy: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    is_eligible: bool,
}

impl Pool {
    /// A pool without sessions: it opens them on demand, or in [`fill`](Self::fill).
    pub fn new(connector: Connector, size: usize) -> Self {
        let state = State {
            idle: Vec::with_capacity(size),
            free: size,
            open: 0,
            lines: HashMap::new(),
            eligible: VecDeque::new(),
            waiting: 0,
            is_closed: false,
        };
        Self(Arc::new(Shared { connector, size, state: Mutex::new(state) }))
    }

    /// Opens all sessions, so that the first burst does not pay for it. One by one, since a storm of
    /// connects on a Unix socket fails with `EAGAIN`.
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

    /// A session for `owner`, within `wait`.
    ///
    /// # Errors
    /// [`Failure::NotSent`] if none was free in time, [`Failure::Unreachable`] if none can be opened,
    /// and [`ChangeError::Busy`] at once if too many wait already.
    pub async fn lease(&self, owner: Owner, wait: Duration) -> Result<Lease, Failure> {
        let place = self.place(owner, wait).await.map_err(|reason| match reason {
            NoPlace::Unreachable => Failure::Unreachable(reason.into()),
            NoPlace::TooMany => ChangeError::Busy("too many wait for a database session").into(),
            _ => Failure::NotSent(reason.into()),
        })?;
        self.occupy(place).await
    }

    async fn place(&self, owner: Owner, wait: Duration) -> Result<Place, NoPlace> {
        let granted = match self.0.request(owner)? {
            Requested::Granted(place) => return Ok(place),
            Requested::Queued(granted) => granted,
        };
        match timeout(wait, granted).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) if self.0.lock().is_closed => Err(NoPlace::Closed),
            Ok(Err(_)) => Err(NoPlace::Unreachable),
            Err(_) => Err(NoPlace::TimedOut),
        }
    }

    /// Takes an idle session that still works, or opens one.
    async fn occupy(&self, place: Place) -> Result<Lease, Failure> {
        let mut lease = Lease { session: None, is_open: false, place };
        let idle = self.0.lock().idle.pop();
        if let Some(mut session) = idle {
            lease.is_open = true;
            if self.0.connector.check(&mut session).await.is_ok() {
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
                // The waiting requests would fail as well, and each attempt may take long.
                let rejected = self.0.lock().reject_waiting_if_none_is_open();
                drop(rejected);
                Err(Failure::Unreachable(error.into()))
            }
        }
    }

    /// How much of it is used at the moment.
    pub fn used(&self) -> PoolUse {
        let max = self.0.size;
        let state = self.0.lock();
        PoolUse { max, open: state.open, in_use: max - state.free, waiting: state.waiting }
    }

    /// Grants no more places, waits until all places are free, for at most `limit`, and closes the idle
    /// sessions. A session that is still in use is closed after its work.
    pub async fn close(&self, limit: Duration) {
        /// How often the places are counted. A pool is closed only once.
        const STEP: Duration = Duration::from_millis(5);
        let rejected = self.0.lock().close();
        drop(rejected);
        let deadline = Instant::now() + limit;
        while self.0.lock().free < self.0.size && Instant::now() < deadline {
            sleep(STEP).await;
        }
        let idle = std::mem::take(&mut self.0.lock().idle);
        futures_util::future::join_all(idle.into_iter().map(Session::close)).await;
    }
}

enum Requested {
    Granted(Place),
    Queued(oneshot::Receiver<Place>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places an owner may have.
    fn share(&self, owner: Owner) -> usize {
        if owner.is_some() { (self.size / 2).max(1) } else { self.size }
    }

    fn request(self: &Arc<Self>, owner: Owner) -> Result<Requested, NoPlace> {
        let share = self.share(owner);
        let mut state = self.lock();
        let state = &mut *state;
        if state.is_closed {
            return Err(NoPlace::Closed);
        }
        let line = state.lines.entry(owner).or_default();
        if state.free > 0 && line.busy < share && line.waiting.is_empty() {
            line.busy += 1;
            state.free -= 1;
            return Ok(Requested::Granted(Place { pool: Some(Arc::clone(self)), owner }));
        }
        if state.waiting >= WAITING_MAX || line.waiting.len() >= share_of(WAITING_MAX) {
            state.update_line(owner, share);
            return Err(NoPlace::TooMany);
        }
        let (grant, granted) = oneshot::channel();
        line.waiting.push_back(grant);
        state.waiting += 1;
        state.update_line(owner, share);
        Ok(Requested::Queued(granted))
    }

    /// Takes a place back and grants it to the next eligible owner.
    fn release(self: &Arc<Self>, owner: Owner) {
        let mut state = self.lock();
        let state = &mut *state;
        state.free += 1;
        if let Some(line) = state.lines.get_mut(&owner) {
            line.busy -= 1;
        }
        state.update_line(owner, self.share(owner));
        while state.free > 0
            && let Some(next) = state.eligible.pop_front()
        {
            self.grant(state, next);
        }
    }

    /// Grants a place to the first request of a line that still waits.
    fn grant(self: &Arc<Self>, state: &mut State, owner: Owner) {
        let Some(line) = state.lines.get_mut(&owner) else { return };
        line.is_eligible = false;
        while let Some(grant) = line.waiting.pop_front() {
            state.waiting -= 1;
            match grant.send(Place { pool: Some(Arc::clone(self)), owner }) {
                Ok(()) => {
                    line.busy += 1;
                    state.free -= 1;
                    break;
                }
                // The request has timed out, and this place was never in use.
                Err(mut place) => place.pool = None,
            }
        }
        state.update_line(owner, self.share(owner));
    }
}

impl State {
    /// Makes the owner eligible where requests wait and its share is not used up. Removes its line if
    /// it is empty.
    fn update_line(&mut self, owner: Owner, share: usize) {
        let Some(line) = self.lines.get_mut(&owner) else { return };
        if !line.waiting.is_empty() {
            if line.busy < share && !line.is_eligible {
                line.is_eligible = true;
                self.eligible.push_back(owner);
            }
        } else if line.busy == 0 {
            self.lines.remove(&owner);
        }
    }

    /// Rejects all waiting requests if no session is open. Drop the result without the lock.
    fn reject_waiting_if_none_is_open(&mut self) -> Vec<oneshot::Sender<Place>> {
        if self.open > 0 { Vec::new() } else { self.reject_waiting() }
    }

    fn close(&mut self) -> Vec<oneshot::Sender<Place>> {
        self.is_closed = true;
        self.reject_waiting()
    }

    fn reject_waiting(&mut self) -> Vec<oneshot::Sender<Place>> {
        self.waiting = 0;
        self.eligible.clear();
        let mut rejected = Vec::new();
        self.lines.retain(|_, line| {
            line.is_eligible = false;
            rejected.extend(line.waiting.drain(..));
            line.busy > 0
        });
        rejected
    }
}

/// The right to one session, until it is dropped.
#[derive(Debug)]
struct Place {
    pool: Option<Arc<Shared>>,
    owner: Owner,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.release(self.owner);
        }
    }
}

/// A session for one piece of work. Dropped without [`put_back`](Self::put_back), it closes the
/// session and frees the place.
#[derive(Debug)]
pub struct Lease {
    session: Option<Session>,
    /// Whether the pool counts it as open.
    is_open: bool,
    place: Place,
}

impl Lease {
    /// The session, to be put back after its work. The first call returns one.
    pub fn take(&mut self) -> Option<Session> {
        self.session.take()
    }

    /// Gives the place back, with the session if it can be used again.
    pub fn put_back(mut self, session: Option<Session>) {
        self.session = session;
    }
}

impl Drop for Lease {
    /// Returns the session before the place is dropped, so the next lease finds it idle.
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
    const A: Owner = UserId::new(1);
    const B: Owner = UserId::new(2);

    /// A pool of which only places are used, so no session is opened.
    fn pool(size: usize) -> Pool {
        let limits = SessionLimits { answer: LONG, lock_wait: LONG };
        Pool::new(Connector::new(PgConnectOptions::new_without_pgpass(), limits), size)
    }

    /// Requests places in this order, and returns the order in which they are granted, one at a time.
    async fn order_of(
        pool: &Pool,
        first: Place,
        wanted: &'static [(&'static str, Owner)],
    ) -> String {
        let (granted, mut order) = tokio::sync::mpsc::channel(wanted.len());
        for (name, owner) in wanted {
            let (pool, granted, owner) = (pool.clone(), granted.clone(), *owner);
            tokio::spawn(async move {
                let place = pool.place(owner, LONG).await.unwrap();
                granted.send(*name).await.unwrap();
                drop(place);
            });
            tokio::task::yield_now().await;
        }
        drop((granted, first));
        let mut names = String::new();
        while let Some(name) = order.recv().await {
            names += name;
        }
        names
    }

    #[tokio::test]
    async fn users_are_served_round_robin_and_a_user_in_order_of_arrival() {
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
    async fn one_user_has_at_most_half_of_the_places() {
        let pool = pool(4);
        let _first = pool.place(A, LONG).await.unwrap();
        let second = pool.place(A, LONG).await.unwrap();
        assert!(pool.place(A, LONG).now_or_never().is_none(), "a third has to wait");
        let _other = pool.place(B, LONG).now_or_never().expect("the rest is for others").unwrap();
        let _no_one =
            pool.place(None, LONG).now_or_never().expect("and for work of no single user").unwrap();
        drop(second);
        let again = pool.place(A, LONG).now_or_never();
        assert!(again.is_some_and(|place| place.is_ok()), "its share is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_bounded_and_takes_no_place_with_it() {
        let pool = pool(1);
        let place = pool.place(A, LONG).await.unwrap();
        assert!(matches!(pool.place(B, LONG).await, Err(NoPlace::TimedOut)));
        assert!(pool.place(B, LONG).now_or_never().is_none(), "a request that is dropped at once");
        drop(place);
        assert!(pool.place(B, LONG).now_or_never().is_some(), "no request that is gone took it");
        assert_eq!(pool.0.lock().free, 1);
    }

    #[test]
    fn one_user_fills_a_share_of_the_waiting_line_and_others_find_room() {
        let pool = pool(2);
        let all = |owner| std::iter::repeat_with(move || pool.0.request(owner));
        let busy: Vec<_> = all.clone()(A).take(1).collect();
        let waiting: Vec<_> = all.clone()(A).take_while(Result::is_ok).collect();
        assert_eq!(waiting.len(), 12_288);
        let others: Vec<_> = all(B).take_while(Result::is_ok).collect();
        // One is granted at once.
        assert_eq!(others.len(), 1 + WAITING_MAX - 12_288);
        drop(busy);
    }

    #[tokio::test]
    async fn closing_rejects_waiting_requests_and_later_ones() {
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
        assert!(matches!(waiting.await.unwrap(), Err(NoPlace::Closed)));
        assert!(matches!(pool.place(A, LONG).await, Err(NoPlace::Closed)));
        assert!(!closing.is_finished(), "it waits for the place in use");
        drop(place);
        closing.await.unwrap();
    }
}
