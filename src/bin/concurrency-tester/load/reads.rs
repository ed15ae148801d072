//! Reads: what is asked depends on what the client has seen so far.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::caller::Caller;
use super::draw::{Ask, What};
use super::wires::Heard;
use crate::contract::books::{Entry, HoldId, HoldState, State};
use crate::contract::time::Micros;
use crate::findings::Kind;
use crate::reply::Reply;
use crate::witness::record::{Seen, Then, Window};

/// Short: a record has every entry of every page.
const PAGE: usize = 8;

/// How many moments a client remembers.
const MOMENTS_MAX: usize = 16;

/// What a client has seen.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of each user, the newest version.
    versions: BTreeMap<i64, i64>,
    /// When entries were made; the oldest is replaced first.
    moments: Vec<Micros>,
    next_moment: usize,
}

impl Known {
    pub(super) fn version(&mut self, user: i64, version: i64) {
        let newest = self.versions.entry(user).or_default();
        *newest = version.max(*newest);
    }

    fn moment(&mut self, moment: Micros) {
        if self.moments.len() < MOMENTS_MAX {
            return self.moments.push(moment);
        }
        self.moments[self.next_moment % MOMENTS_MAX] = moment;
        self.next_moment += 1;
    }
}

/// What a read asks for.
#[derive(Debug, Clone, Copy)]
enum Question {
    State(i64),
    At(i64, Micros),
    Version(i64, i64),
    Page(i64, Option<i64>),
    Hold(HoldId),
}

#[derive(Deserialize)]
struct OfUser {
    id: i64,
    #[serde(flatten)]
    state: State,
}

#[derive(Deserialize)]
struct Page {
    changes: Vec<Entry>,
}

impl Caller {
    pub(super) async fn read(&mut self, ask: Ask, target: usize) {
        let question = self.question(ask);
        let path = question.path();
        let request = self.shared.instances[target].get(&path);
        let heard = self.wires.ask(&self.shared, target, request, None).await;
        let Some(Heard { reply, window, .. }) = heard else { return };
        let number = self.next_request();
        match question.seen(&reply) {
            Some(seen) => self.saw(number, window, seen),
            None => {
                // A moment by this machine's clock may be in the future by the database's.
                let by_clock = matches!(ask.what, What::Ago(_));
                if let Some(kind) = wrong(&reply, by_clock) {
                    let example = format!("request {number}: GET {path}: {reply}");
                    self.recorder.wrong.push((kind, example));
                }
            }
        }
    }

    /// Where nothing is known yet that could be asked for: the state of the user.
    fn question(&self, Ask { user, what, random }: Ask) -> Question {
        let version = || {
            let newest = *self.known.versions.get(&user)?;
            let newest = usize::try_from(newest).ok().filter(|newest| *newest > 0)?;
            i64::try_from(random % newest + 1).ok()
        };
        let moment = || {
            let position = random.checked_rem(self.known.moments.len())?;
            Some(self.known.moments[position])
        };
        let question = match what {
            What::State => None,
            What::At => moment().map(|moment| Question::At(user, moment)),
            What::Ago(micros) => now().map(|Micros(now)| Question::At(user, Micros(now - micros))),
            What::Version => version().map(|version| Question::Version(user, version)),
            What::Page => Some(Question::Page(user, None)),
            What::PageBefore => version().map(|version| Question::Page(user, Some(version + 1))),
            What::Hold => self.shared.holds.any(random).map(|hold| Question::Hold(hold.id)),
        };
        question.unwrap_or(Question::State(user))
    }

    fn saw(&mut self, request: usize, window: Window, seen: Seen) {
        self.shared.counters.reads.fetch_add(1, Ordering::Relaxed);
        match &seen {
            Seen::State { user, state } => self.known.version(*user, state.version),
            Seen::At { user, then, .. } => self.known.version(*user, then.state.version),
            Seen::Version { then, .. } => self.known.moment(then.at),
            Seen::Page { user, entries, .. } => {
                if let Some(newest) = entries.first() {
                    self.known.version(*user, newest.version);
                    self.known.moment(newest.created_at);
                }
            }
            Seen::Hold { hold, .. } => self.known.moment(hold.created_at),
        }
        self.recorder.read(request, window, seen);
    }
}

impl Question {
    fn path(self) -> String {
        match self {
            Self::State(user) => format!("/users/{user}"),
            Self::At(user, moment) => format!("/users/{user}/balance?at={moment}"),
            Self::Version(user, version) => format!("/users/{user}/balance?version={version}"),
            Self::Page(user, None) => format!("/users/{user}/changes?limit={PAGE}"),
            Self::Page(user, Some(before)) => {
                format!("/users/{user}/changes?limit={PAGE}&before={before}")
            }
            Self::Hold(HoldId { user, hold }) => format!("/users/{user}/holds/{hold}"),
        }
    }

    /// `None` if it is not the answer that the contract has for this question.
    fn seen(self, reply: &Reply) -> Option<Seen> {
        match self {
            Self::State(user) => {
                let OfUser { id, state } = parse(reply)?;
                (id == user).then_some(Seen::State { user, state })
            }
            Self::At(user, asked) => {
                let then: Then = parse(reply)?;
                Some(Seen::At { user, asked, then })
            }
            Self::Version(user, asked) => {
                let then: Then = parse(reply)?;
                Some(Seen::Version { user, asked, then })
            }
            Self::Page(user, before) => {
                let Page { changes } = parse(reply)?;
                let fits = changes.len() <= PAGE;
                fits.then_some(Seen::Page { user, before, entries: changes })
            }
            Self::Hold(id) => {
                let hold: HoldState = parse(reply)?;
                (hold.hold == id.hold).then_some(Seen::Hold { id, hold })
            }
        }
    }
}

fn parse<T: DeserializeOwned>(reply: &Reply) -> Option<T> {
    match reply {
        Reply::Answer { status: 200, body } => serde_json::from_slice(body).ok(),
        _ => None,
    }
}

/// What is wrong with a reply that shows nothing. A database that is away is not.
fn wrong(reply: &Reply, may_be_future: bool) -> Option<Kind> {
    match reply {
        Reply::TimedOut => Some(Kind::TimedOut),
        Reply::ConnectionLost(_) | Reply::Answer { status: 503 | 504, .. } => None,
        Reply::Answer { status: 400, .. } if may_be_future => None,
        Reply::Answer { status: 200, .. } => Some(Kind::UnexpectedBody(200)),
        Reply::Answer { status, .. } => Some(Kind::UnexpectedStatus(*status)),
    }
}

/// `None` if the clock of this machine is before 1970.
fn now() -> Option<Micros> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok().map(Micros)
}
