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
use super::ring::NEWS_BYTES;
use super::schedule::{Answer, Found, Question, RETRY_PAUSE, Schedule};
use super::{PageRequest, Render, Shared};
use crate::ledger::{ChangeError, UserId};
use crate::store::error::Failure;
use crate::store::history::{self, NewEntry};
use crate::store::own_session::{OF_BATCHES, OwnSession};
use crate::store::session::{BoxFuture, Connector};

/// The entries of a page, and the length after which none is added: what a watcher that does not read
/// keeps in memory.
const PAGE_ENTRIES: i64 = 128;
const PAGE_BYTES: usize = 32 * 1024;

pub(super) struct Reader {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<PageRequest>,
    session: OwnSession,
    render: Render,
    schedule: Schedule,
    /// When the next page may be read.
    page_due: Instant,
    is_failing: bool,
}

/// The new entries of a user.
pub(super) struct News {
    pub(super) user: i64,
    pub(super) blocks: Blocks,
}

impl News {
    fn found(&self) -> Found {
        let Self { user, blocks } = self;
        Found { user: *user, entries: blocks.entries(), is_cut: blocks.is_cut() }
    }
}

/// Watched users, and the last versions that are known.
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
            schedule: Schedule::default(),
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
            self.schedule.stop();
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn serve(&mut self) {
        loop {
            let poll_due = self.schedule.due();
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
                    None => self.schedule.start(Instant::now()),
                },
                request = asking => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
            }
        }
    }

    /// Asks for new entries of watched users, and gives them to the watchers.
    async fn poll(&mut self) {
        let began = Instant::now();
        let question = self.schedule.next(began);
        let known = match &question {
            Question::Full => self.shared.known(began),
            Question::Rest(users) => self.shared.known_of(users),
        };
        let count = known.users.len();
        if question == Question::Full {
            self.shared.counters.set_users(count);
            if count == 0 {
                self.schedule.stop();
                return;
            }
        }
        let share = self.schedule.share(count);
        let read = self.read(known, share).await;
        let took = began.elapsed();
        self.shared.counters.observe_poll(took);
        let Some(news) = self.noted(read) else {
            self.schedule.failed(Instant::now());
            return;
        };
        let found = news.iter().map(News::found).collect();
        let woken = news.into_iter().map(|news| self.shared.publish(news)).sum();
        let answer = Answer { now: Instant::now(), took, found, woken };
        self.schedule.answered(&question, share, &answer);
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
                        let blocks = Blocks::after(entry.version - 1, NEWS_BYTES, render);
                        all.push(News { user, blocks });
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
                let mut blocks = Blocks::after(after, PAGE_BYTES, render);
                let add = |new: NewEntry| blocks.push(new.entry);
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

    /// Those of these users that somebody still watches, in the same order.
    fn known_of(&self, users: &[i64]) -> Known {
        let mut known = Known::default();
        let rings = self.rings();
        for user in users {
            if let Some(ring) = UserId::new(*user).and_then(|user| rings.get(&user)) {
                known.users.push(*user);
                known.versions.push(ring.borrow().last());
            }
        }
        known
    }

    /// Appends new entries to a user's ring, and wakes its watchers. Returns how many there are.
    pub(super) fn publish(&self, News { user, blocks }: News) -> usize {
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
