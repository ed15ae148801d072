//! The feed: new entries of the journal, for everybody who watches a user.
//!
//! However many watch, one reader asks the database, on one session and a thread of its own: one question
//! every 100 ms or so for the new entries of all watched users, some in between for those that have more than
//! their share (`schedule`), and none where nobody watches. A change does nothing for it: no `NOTIFY`, no
//! message within the process. So changes of other instances arrive in the same way and as soon. The watchers
//! of a user share a ring of entries that are already text (`ring`, `block`); one that has resumed further
//! back, or has fallen behind the ring, reads the journal in pages through the same reader, in turn with the
//! others, until the ring has what it needs.
//!
//! # Why nothing is missed or sent twice
//! A watcher knows one number: the version of the last entry that it was given. Everything that it is given
//! next follows that number, wherever it is read, so no entry is sent twice. None is missed, because the
//! versions of a user are contiguous and become visible in their order: whoever writes version *n + 1* has
//! the lock of the user's row, which the transaction of version *n* gives up only after its commit is visible
//! to all new snapshots. So a statement that sees an entry sees all entries before it. What is read is
//! checked all the same: an entry that does not follow the last one ends the streams of its user, with an
//! error in the log, since a journal with a gap is one that `verify` finds as well.
//!
//! The number is all there is to resume with, here or on any other instance: nothing is kept for a client that
//! has gone.
//!
//! # When the process or the database dies
//! An entry is visible when it is durable, on the synchronous standbys as well, so no watcher sees one that a
//! crash takes back. While the database is away the reader asks again and again, and the streams stay open;
//! then it goes on after the last versions that it knows. A host that has become read-only gives a reader no
//! error, so where there are several hosts, a session asks its own once a second and is replaced. When the
//! process dies, the clients connect elsewhere with the last version that they have seen.
//!
//! Only a database that has lost committed entries breaks this, such as an asynchronous standby that has
//! taken over. As long as the user's version is below one that was read, the next watcher finds that out and
//! the streams of the user end, and a client that has seen lost entries is refused, because its version is
//! beyond the user's. Once new entries have taken the numbers of the lost ones, nothing tells them apart: a
//! stream, or a client that resumes, goes on after the last number that it knows, and never gets the new
//! entries up to there. To end the streams after each failover would not help, since the number is all that
//! their clients come back with. A synchronous standby loses nothing.
//!
//! # Bounds
//! The streams are bounded ([`Feed::place`]). A ring is bounded, by a time and by a length. A watcher has at
//! most one question on its way, so the questions are bounded and served in turn; its answer is a bounded
//! page, and the next one is asked for when that has been taken.

mod block;
mod reader;
mod ring;
mod schedule;
mod watch;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch as watching};
use tracing::error;

use self::reader::Reader;
use self::ring::Ring;
use crate::ledger::{ChangeError, UserId};
use crate::metrics::feed::{FeedCounters, OpenStream};
use crate::store::history::Entry;
use crate::store::session::Connector;

pub use self::block::Entries;
pub use self::watch::Watch;

/// Appends an entry as the text that all its watchers get.
pub type Render = fn(&mut Vec<u8>, Entry);

/// The way to new entries. Clones share it.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
    pages: mpsc::Sender<PageRequest>,
    places: Arc<Semaphore>,
}

type Rings = BTreeMap<UserId, watching::Sender<Ring>>;

/// What watchers and reader share.
struct Shared {
    /// By user, since the database searches a range of its index faster than places all over it.
    rings: Mutex<Rings>,
    /// Notified when somebody watches and nobody did before.
    woken: Notify,
    counters: FeedCounters,
}

/// A question for the entries of the journal that follow a version.
struct PageRequest {
    user: UserId,
    after: i64,
    /// Dropped if they cannot be read now; without any entry if there is a gap.
    reply: oneshot::Sender<Vec<block::Block>>,
}

/// The right to one stream of a user, until it is dropped.
pub struct Place {
    user: UserId,
    /// The version up to which the user's entries were read when the place was taken.
    known: Option<i64>,
    _permit: OwnedSemaphorePermit,
    _open: OpenStream,
}

/// The thread of the reader. Dropping it ends the feed, and with it all streams.
pub struct Running(#[expect(dead_code, reason = "only dropped")] oneshot::Sender<()>);

impl Feed {
    /// Starts the reader, which connects when somebody watches. There may be `streams_max` streams.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(
        connector: Connector,
        render: Render,
        streams_max: usize,
        counters: FeedCounters,
    ) -> io::Result<(Self, Running)> {
        let shared = Arc::new(Shared { rings: Mutex::default(), woken: Notify::new(), counters });
        let streams_max = streams_max.clamp(1, Semaphore::MAX_PERMITS);
        let (pages, requests) = mpsc::channel(streams_max);
        let reader = Reader::new(Arc::clone(&shared), requests, connector, render);
        let (stop, stopped) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        // Not on the thread of the lanes: a busy account has thousands of entries a poll.
        thread::Builder::new().name("feed".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = reader.run() => {}
                    // The sender signals by being dropped, which is an error here.
                    _ = stopped => {}
                }
            });
            // Does not wait for a look-up of a host's name: its thread cannot be stopped.
            runtime.shutdown_background();
        })?;
        let places = Arc::new(Semaphore::new(streams_max));
        Ok((Self { shared, pages, places }, Running(stop)))
    }

    /// Takes the place of a stream that is going to watch this user.
    ///
    /// # Errors
    /// [`ChangeError::Busy`] when there are too many.
    pub fn place(&self, user: UserId) -> Result<Place, ChangeError> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit =
            permit.map_err(|_| ChangeError::Busy("too many streams of events are open"))?;
        let known = self.shared.rings().get(&user).map(|ring| ring.borrow().last());
        Ok(Place { user, known, _permit: permit, _open: self.shared.counters.stream() })
    }

    /// Watches the user of the place: gives the entries that follow version `after`. The user was seen with
    /// `version` entries since the place was taken.
    pub fn watch(&self, place: Place, after: i64, version: i64) -> Watch {
        let (user, known) = (place.user, place.known);
        let mut rings = self.shared.rings();
        // What was read before is visible to every later statement, unless the database has lost it. A new
        // watcher would wait for versions that have yet to be made once more.
        if known.is_some_and(|known| version < known) {
            error!(%user, ?known, version, "the database has lost entries: this user's streams are ended");
            rings.remove(&user);
        }
        if rings.is_empty() {
            self.shared.woken.notify_one();
        }
        let ring = match rings.entry(user) {
            MapEntry::Occupied(ring) => ring.get().subscribe(),
            MapEntry::Vacant(free) => {
                free.insert(watching::Sender::new(Ring::after(version))).subscribe()
            }
        };
        drop(rings);
        Watch::new(self, place, after, ring)
    }
}

impl Shared {
    fn rings(&self) -> MutexGuard<'_, Rings> {
        // Nothing that runs under the lock can leave the map half-changed.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
