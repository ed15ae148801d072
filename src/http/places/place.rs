//! The place of one connection, and the start of its pause.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::config::HttpLimits;

/// The state that all places share.
pub(super) struct Shared {
    free: AtomicUsize,
    /// Notified when a connection has closed or declined.
    changed: Notify,
}

impl Shared {
    pub(super) fn new(count: usize) -> Self {
        Self { free: AtomicUsize::new(count), changed: Notify::new() }
    }

    pub(super) fn has_free(&self) -> bool {
        self.free.load(Ordering::Acquire) > 0
    }

    /// Resolves if a connection has closed or declined since the last call, or when one does.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// When a connection's pause has to end. Belongs to the connection's task.
pub(in crate::http) struct Patience {
    limits: HttpLimits,
    /// The pause in which the client owes a head, and since when.
    owed: (u64, Instant),
}

impl Patience {
    /// For a new connection.
    pub(in crate::http) fn begin(pause: &Pause, limits: HttpLimits) -> Self {
        Self { limits, owed: (pause.began.load(Ordering::Relaxed), Instant::now()) }
    }

    /// From now on, a pause may last no longer than `limit`.
    pub(in crate::http) fn hurry(&mut self, limit: Duration) {
        let HttpLimits { idle, head, .. } = &mut self.limits;
        (*idle, *head) = ((*idle).min(limit), (*head).min(limit));
    }

    /// How long a connection may rest.
    pub(in crate::http) fn idle(&self) -> Duration {
        self.limits.idle
    }

    /// The end of the pause; `None` while a request is served.
    pub(in crate::http) fn ends(&mut self, pause: &Pause) -> Option<Instant> {
        let began = pause.began()?;
        if !pause.owes_head.load(Ordering::Relaxed) {
            return Some(pause.started + Duration::from_micros(began) + self.limits.idle);
        }
        // The clock is read only for a head that did not arrive as a whole.
        if self.owed.0 != began {
            self.owed = (began, Instant::now());
        }
        Some(self.owed.1 + self.limits.head)
    }
}

/// The place of one connection. Dropping it frees the place, so the socket must be closed before.
pub(in crate::http) struct Place {
    pause: Arc<Pause>,
    shared: Arc<Shared>,
}

impl Place {
    /// Takes a free place for a connection that is idle from now on.
    pub(super) fn take(shared: &Arc<Shared>, started: Instant) -> Self {
        shared.free.fetch_sub(1, Ordering::Relaxed);
        Self { pause: Arc::new(Pause::begin(started)), shared: Arc::clone(shared) }
    }

    /// The connection's pause.
    pub(in crate::http) fn pause(&self) -> &Arc<Pause> {
        &self.pause
    }

    /// Registers the current task, so that a request to leave wakes it. Once is enough, because
    /// [`is_to_leave`] renews it. Always ready.
    ///
    /// [`is_to_leave`]: Self::is_to_leave
    pub(in crate::http) fn listen(&self, context: &Context<'_>) -> Poll<()> {
        self.pause.waker.register(context.waker());
        Poll::Ready(())
    }

    /// Resolves when the connection has to leave.
    pub(in crate::http) async fn until_asked_to_leave(&self) {
        poll_fn(|context| {
            let _ = self.listen(context);
            if self.is_to_leave(context) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether the connection was asked to leave and has been idle ever since. Declines if the
    /// connection was used in the meantime.
    pub(in crate::http) fn is_to_leave(&self, context: &Context<'_>) -> bool {
        let Pause { asked, began, .. } = &*self.pause;
        let asked_at = asked.load(Ordering::Acquire);
        if asked_at == NOT_ASKED || asked_at == began.load(Ordering::Relaxed) {
            return asked_at != NOT_ASKED;
        }
        // The last request to leave has taken the waker. Renew it before declining, because the
        // next such request may come right after that.
        let _ = self.listen(context);
        if asked.compare_exchange(asked_at, NOT_ASKED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            self.shared.changed.notify_one();
        }
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before the place is free, so that its next taker does not wait for this connection again.
        self.pause.asked.store(NOT_ASKED, Ordering::Release);
        self.pause.interrupt();
        self.shared.free.fetch_add(1, Ordering::Release);
        self.shared.changed.notify_one();
    }
}

/// The time since a connection last served a request. In this time the client has to read the last
/// response and send the next request's head.
///
/// It has two limits: a client may rest for long between two requests, but owes a head that it has begun
/// soon. A new connection owes one from the start.
pub(in crate::http) struct Pause {
    started: Instant,
    /// In microseconds after `started`; [`BUSY`] while a request is served.
    began: AtomicU64,
    /// Whether something was read in this pause, or the connection is new.
    owes_head: AtomicBool,
    /// The beginning of the pause in which the connection was asked to leave, or [`NOT_ASKED`].
    asked: AtomicU64,
    /// The connection is to be closed, whatever it does.
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

const BUSY: u64 = u64::MAX;
const NOT_ASKED: u64 = u64::MAX;

impl Pause {
    fn begin(started: Instant) -> Self {
        let pause = Self {
            started,
            began: AtomicU64::new(BUSY),
            owes_head: AtomicBool::new(true),
            asked: AtomicU64::new(NOT_ASKED),
            is_cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        pause.began.store(pause.now(), Ordering::Relaxed);
        pause
    }

    /// Ends the pause: a request has arrived.
    pub(in crate::http) fn interrupt(&self) {
        self.began.store(BUSY, Ordering::Relaxed);
    }

    /// Begins a new pause: the response is ready.
    pub(in crate::http) fn resume(&self) {
        self.owes_head.store(false, Ordering::Relaxed);
        self.began.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(BUSY - 1)
    }

    /// Something was read. If it completes a head, [`interrupt`](Self::interrupt) follows.
    pub(in crate::http) fn begin_head(&self) {
        self.owes_head.store(true, Ordering::Relaxed);
    }

    /// Makes the connection close, even though it is busy.
    pub(in crate::http) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection is to be closed. Must be read after [`Place::is_to_leave`], which renews
    /// the waker.
    pub(in crate::http) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Asks the connection to leave, unless another pause has begun since.
    pub(super) fn ask_to_leave(&self, began: u64) -> bool {
        let is_the_same = self.began.load(Ordering::Relaxed) == began;
        if is_the_same {
            self.asked.store(began, Ordering::Release);
            self.waker.wake();
        }
        is_the_same
    }

    /// When the pause began, in microseconds; `None` while a request is served.
    pub(super) fn began(&self) -> Option<u64> {
        Some(self.began.load(Ordering::Relaxed)).filter(|began| *began != BUSY)
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire) != NOT_ASKED
    }
}
