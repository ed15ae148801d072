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
