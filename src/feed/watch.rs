//! One watcher of a user.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::block::{Block, Entries};
use super::ring::{Next, Ring};
use super::{Feed, PageRequest, Place, Shared};

/// Watches a user until it is dropped.
pub struct Watch {
    /// The version of the last entry that was given out.
    after: i64,
    ring: watch::Receiver<Ring>,
    pages: mpsc::Sender<PageRequest>,
    /// A page that was asked for.
    asked: Option<oneshot::Receiver<Vec<Block>>>,
    /// The rest of the last page.
    page: VecDeque<Block>,
    shared: Arc<Shared>,
    place: Place,
}

impl Watch {
    pub(super) fn new(feed: &Feed, place: Place, after: i64, ring: watch::Receiver<Ring>) -> Self {
        Self {
            after,
            ring,
            pages: feed.pages.clone(),
            asked: None,
            page: VecDeque::new(),
            shared: Arc::clone(&feed.shared),
            place,
        }
    }

    /// The next entries, when there are some; `None` if there never will be, because the feed has ended or
    /// the journal has a gap. The future may be dropped at any time.
    pub async fn next(&mut self) -> Option<Entries> {
        let entries = loop {
            if let Some(entries) = self.page.pop_front().and_then(|block| block.after(self.after)) {
                break entries;
            }
            if let Some(page) = &mut self.asked {
                let page = page.await;
                self.asked = None;
                match page {
                    Ok(blocks) if blocks.is_empty() => return None,
                    Ok(blocks) => self.page = blocks.into(),
                    // The database is away. The reader pauses before it takes the next question.
                    Err(_) => {}
                }
                continue;
            }
            let next = self.ring.borrow_and_update().next(self.after);
            match next {
                Next::Entries(entries) => break entries,
                Next::Nothing => self.ring.changed().await.ok()?,
                Next::Gone => self.ask().await?,
            }
        };
        self.after = entries.last;
        self.shared.counters.add_sent(entries.count);
        Some(entries)
    }

    /// Asks for a page; `None` if the feed has ended.
    async fn ask(&mut self) -> Option<()> {
        let (reply, asked) = oneshot::channel();
        let request = PageRequest { user: self.place.user, after: self.after, reply };
        self.pages.send(request).await.ok()?;
        self.asked = Some(asked);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Blocks;
    use super::super::block::tests::entry;
    use super::super::reader::News;
    use super::super::ring::NEWS_BYTES;
    use super::*;
    use crate::ledger::UserId;
    use crate::metrics::Metrics;
    use crate::store::history::Entry;

    /// As long as an entry with the longest reference and the longest key.
    #[expect(clippy::needless_pass_by_value, reason = "as every `Render`")]
    fn long(out: &mut Vec<u8>, entry: Entry) {
        out.extend_from_slice(format!("{:02200}", entry.version).as_bytes());
    }

    /// Twenty thousand entries, ten times as long as a ring. The watcher is always one answer behind.
    #[tokio::test]
    async fn a_backlog_of_long_entries_comes_through_the_ring() {
        const LAST: i64 = 20_000;
        let (pages, mut requests) = mpsc::channel(1);
        let feed = Feed {
            shared: Arc::new(Shared {
                rings: std::sync::Mutex::default(),
                woken: tokio::sync::Notify::new(),
                counters: Metrics::default().of_feed(),
            }),
            pages,
            places: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        let user = UserId::new(7).unwrap();
        let mut watch = feed.watch(feed.place(user).unwrap(), 0, 0);
        let (mut read, mut before) = (0, 0);
        while watch.after < LAST {
            let mut blocks = Blocks::after(read, NEWS_BYTES, long);
            (read + 1..=LAST).for_each(|version| blocks.push(entry(version)));
            read += blocks.entries();
            feed.shared.publish(News { user: user.get(), blocks });
            while watch.after < before {
                let after = watch.after;
                let next = tokio::select! {
                    biased;
                    next = watch.next() => next.unwrap(),
                    _ = requests.recv() => panic!("it is not in the ring any more"),
                };
                let first = format!("{:02200}", after + 1);
                assert!(next.bytes.starts_with(first.as_bytes()), "{after}");
                let count = i64::try_from(next.count).unwrap();
                assert_eq!(
                    (next.last, next.bytes.len()),
                    (after + count, first.len() * usize::try_from(count).unwrap())
                );
            }
            before = read;
        }
    }
}
