//! The reader: the one task that asks the database, for all watchers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use super::block::Blocks;
use super::{PageRequest, Render, Shared};
use crate::ledger::{ChangeError, UserId};
use crate::store::error::Failure;
use crate::store::history::{self, NewEntry};
use crate::store::own_session::{OF_BATCHES, OwnSession};
use crate::store::session::{BoxFuture, Connector};

/// The shortest pause between two polls. An entry is seen after half of it on average.
const PERIOD: Duration = Duration::from_millis(100);

/// The longest pause. So an entry is seen within half a second if the poll takes no longer than 200 ms.
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// The pause for each watcher that got something, within these limits. A write to a socket and the wake-ups
/// for it cost some 30 µs, however many entries there are, so a crowd gets more at once and less often.
const PAUSE_PER_WATCHER: Duration = Duration::from_micros(300);

/// The pause is so many times as long as the last poll, within the same limits. Many watched users cost a
/// search in an index each: 10,000 of them 41 and 84 ms, on a busy machine. So the reader never keeps a processor of the database
/// busy.
const PAUSE_FACTOR: u32 = 4;

/// The entries of one poll, shared by the users. Where a user has more, the next poll follows at once.
const POLL_ENTRIES: i64 = 16_384;

/// The least share of one user.
const SHARE_MIN: i64 = 4;

/// The entries of a page, and the length after which none is added: what a watcher that does not read
/// keeps in memory.
const PAGE_ENTRIES: i64 = 128;
const PAGE_BYTES: usize = 32 * 1024;

/// The pause after a failure of the database, or a panic.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Reader {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<PageRequest>,
    session: OwnSession,
    render: Render,
    /// When the next poll is due; none while nobody watches.
    poll_due: Option<Instant>,
    /// When the next page may be read.
    page_due: Instant,
    is_failing: bool,
}

/// The new entries of a user.
struct News {
    user: i64,
    blocks: Blocks,
}

/// All watched users, and the last versions that are known.
#[derive(Default)]
struct Known {
    users: Vec<i64>,
    versions: Vec<i64>,
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        requests: mpsc::Receiver<PageRequest>,
        connector: Connector,
        render: Render,
    ) -> Self {
        Self {
            shared,
            requests,
            session: OwnSession::new(connector, OF_BATCHES),
            render,
            poll_due: None,
            page_due: Instant::now(),
            is_failing: false,
        }
    }

    /// Reads until all watchers and the feed are gone.
    pub(super) async fn run(mut self) {
        // The work shares only what is whole between any two statements.
        while AssertUnwindSafe(self.serve()).catch_unwind().await.is_err() {
            error!("the reader of the feed panicked and is started again: its streams are ended");
            // Their clients resume where they are.
            self.shared.rings().clear();
            self.poll_due = None;
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn serve(&mut self) {
        loop {
            let poll_due = self.poll_due;
            let polling = async {
                match poll_due {
                    Some(due) => sleep_until(due).await,
                    None => self.shared.woken.notified().await,
                }
            };
            let page_due = self.page_due;
            let requests = &mut self.requests;
            let asking = async {
                sleep_until(page_due).await;
                requests.recv().await
            };
            // In any order: neither polls nor pages keep the other ones waiting.
            tokio::select! {
                () = polling => match poll_due {
                    Some(_) => self.poll().await,
                    None => self.poll_due = Some(Instant::now() + PERIOD),
                },
                request = asking => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
            }
        }
    }

    /// Asks for the new entries of all watched users, and gives them to the watchers.
    async fn poll(&mut self) {
        let known = self.shared.known(Instant::now());
        let count = known.users.len();
        self.shared.counters.set_users(count);
        if count == 0 {
            self.poll_due = None;
            return;
        }
        let share = POLL_ENTRIES / i64::try_from(count).unwrap_or(i64::MAX);
        let share = share.max(SHARE_MIN);
        let began = Instant::now();
        let read = self.read(known, share).await;
        let took = began.elapsed();
        self.shared.counters.observe_poll(took);
        let pause = match self.noted(read) {
            Some(news) => {
                let is_behind = news.iter().any(|news| news.blocks.entries() >= share);
                let woken: usize = news.into_iter().map(|news| self.shared.publish(news)).sum();
                let crowd = PAUSE_PER_WATCHER.saturating_mul(woken.try_into().unwrap_or(u32::MAX));
                if is_behind {
                    Duration::ZERO
                } else {
                    (took * PAUSE_FACTOR).max(crowd).clamp(PERIOD, PAUSE_MAX)
                }
            }
            None => RETRY_PAUSE,
        };
        self.poll_due = Some(Instant::now() + pause);
    }

    async fn read(&mut self, known: Known, share: i64) -> Result<Vec<News>, ChangeError> {
        let (render, counters) = (self.render, self.shared.counters.clone());
        self.work(move |connection| {
            Box::pin(async move {
                let mut all: Vec<News> = Vec::new();
                let add = |NewEntry { user, read_at, entry }: NewEntry| {
                    if all.last().is_none_or(|news| news.user != user) {
                        let age = read_at.micros() - entry.created_at.micros();
                        // The clock of the database may have been set back.
                        counters.observe_lag(Duration::from_micros(age.try_into().unwrap_or(0)));
                        all.push(News { user, blocks: Blocks::after(entry.version - 1, render) });
                    }
                    if let Some(news) = all.last_mut() {
                        news.blocks.push(entry);
                    }
                };
                history::after(connection, &known.users, &known.versions, share, add).await?;
                Ok(all)
            })
        })
        .await
    }

    /// Reads a page for a watcher that the ring does not have enough for.
    async fn answer(&mut self, PageRequest { user, after, reply }: PageRequest) {
        if reply.is_closed() {
            return;
        }
        let render = self.render;
        let reading = self.work(move |connection| {
            Box::pin(async move {
                let mut blocks = Blocks::after(after, render);
                let add = |new: NewEntry| {
                    if blocks.len() < PAGE_BYTES {
                        blocks.push(new.entry);
                    }
                };
                history::after(connection, &[user.get()], &[after], PAGE_ENTRIES, add).await?;
                Ok(blocks)
            })
        });
        let read = reading.await;
        let Some(blocks) = self.noted(read) else {
            // The watcher asks again, behind the others.
            self.page_due = Instant::now() + RETRY_PAUSE;
            return;
        };
        self.shared.counters.add_page();
        if blocks.entries() == 0 {
            report_gap(user.get(), after);
        }
        let _ = reply.send(blocks.finish());
    }

    /// Runs work on the reader's own session.
    async fn work<T, W>(&mut self, work: W) -> Result<T, ChangeError>
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let session = self.session.take().await?;
        let (result, spent) = session.run(self.session.limits().answer, work).await;
        self.session.give_back(spent).await;
        Ok(result?)
    }

    /// Logs the first of some failures in a row, and their end.
    fn noted<T>(&mut self, result: Result<T, ChangeError>) -> Option<T> {
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        match result {
            Ok(value) => {
                if was_failing {
                    info!("the feed of events goes on");
                }
                Some(value)
            }
            Err(error) if was_failing => {
                debug!(%error, "the feed of events still cannot read the journal");
                None
            }
            Err(error) => {
                warn!(%error, "the feed of events cannot read the journal: its streams wait");
                None
            }
        }
    }
}

impl Shared {
    /// Drops what nobody watches any more, and blocks whose time is over.
    fn known(&self, now: Instant) -> Known {
        let mut known = Known::default();
        self.rings().retain(|user, ring| {
            if ring.receiver_count() == 0 {
                return false;
            }
            if !ring.borrow().is_empty() {
                ring.send_if_modified(|ring| {
                    ring.forget(now);
                    false
                });
            }
            known.users.push(user.get());
            known.versions.push(ring.borrow().last());
            true
        });
        known
    }

    /// Appends new entries to a user's ring, and wakes its watchers. Returns how many there are.
    fn publish(&self, News { user, blocks }: News) -> usize {
        let Some(user) = UserId::new(user) else { return 0 };
        // A copy: waking a thousand watchers must not keep new ones waiting for the map.
        let Some(ring) = self.rings().get(&user).cloned() else { return 0 };
        let last = ring.borrow().last();
        let has_gap = blocks.has_gap();
        let blocks = blocks.finish();
        let follows = blocks.first().is_none_or(|block| block.first() == last + 1);
        if follows {
            ring.send_modify(|ring| ring.push(blocks, Instant::now()));
        }
        if has_gap || !follows {
            report_gap(user.get(), ring.borrow().last());
            self.rings().remove(&user);
        }
        ring.receiver_count()
    }
}

fn report_gap(user: i64, after: i64) {
    error!(user, after, "the journal has a gap: the streams of this user's events are ended");
}
