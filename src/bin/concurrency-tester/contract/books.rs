//! Users, holds and histories as the service shows them, all as of one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::api::{Api, ApiError};
use super::time::Micros;

/// The pause before all is read again, where a request without an answer was still being applied.
const PAUSE: Duration = Duration::from_millis(200);

/// A hold of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HoldId {
    pub(crate) user: i64,
    pub(crate) hold: i64,
}

/// One user's money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct State {
    pub(crate) balance: i64,
    pub(crate) held: i64,
    pub(crate) version: i64,
}

/// One entry of a history.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) version: i64,
    pub(crate) kind: EntryKind,
    pub(crate) amount: i64,
    pub(crate) held_amount: i64,
    pub(crate) balance: i64,
    pub(crate) held: i64,
    pub(crate) created_at: Micros,
    pub(crate) reference: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) hold: Option<i64>,
    pub(crate) peer: Option<Peer>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { balance, held, version } = self;
        write!(f, "version {version}, balance {balance}, held {held}")
    }
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EntryKind {
    Change,
    Transfer,
    Hold,
    Capture,
    Release,
    Expiry,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Change => "change",
            Self::Transfer => "transfer",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Release => "release",
            Self::Expiry => "expiry",
        })
    }
}

/// The other side of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Peer {
    pub(crate) user: i64,
    pub(crate) version: i64,
}

/// One user before and after a burst, and the entries in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) before: State,
    pub(crate) after: State,
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
}

impl History {
    /// The entry with this version, if the versions have no gap before it.
    pub(crate) fn entry(&self, version: i64) -> Option<&Entry> {
        let place = version.checked_sub(self.before.version)?.checked_sub(1)?;
        let entry = self.entries.get(usize::try_from(place).ok()?)?;
        (entry.version == version).then_some(entry)
    }
}

/// One hold as the service shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HoldState {
    pub(crate) hold: i64,
    pub(crate) amount: i64,
    pub(crate) captured: i64,
    pub(crate) state: String,
    pub(crate) created_at: Micros,
    pub(crate) expires_at: Micros,
    pub(crate) resolved_at: Option<Micros>,
}

/// All users of a run with their histories, and all their holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    pub(crate) users: BTreeMap<i64, History>,
    pub(crate) holds: BTreeMap<HoldId, HoldState>,
}

impl Books {
    /// Reads everything as of one moment: reads it again until no user has changed meanwhile.
    ///
    /// # Errors
    /// The service does not show it, or users still change when the time is up.
    pub(crate) async fn read(
        api: &mut Api<'_>,
        before: &BTreeMap<i64, State>,
        patience: Duration,
    ) -> Result<Self, ApiError> {
        let give_up = Instant::now() + patience;
        let mut states = read_states(api, before).await?;
        loop {
            let mut books = Self::default();
            for (user, after) in &states {
                let before = before[user];
                let entries = api.entries(*user, before.version, after.version).await?;
                books.users.insert(*user, History { before, after: *after, entries });
                for hold in api.holds(*user).await? {
                    books.holds.insert(HoldId { user: *user, hold: hold.hold }, hold);
                }
            }
            let again = read_states(api, before).await?;
            // Versions only grow. Equal ones before and after mean that nothing changed in between.
            if again == states {
                return Ok(books);
            }
            if Instant::now() >= give_up {
                return Err(ApiError::StillChanging);
            }
            states = again;
            sleep(PAUSE).await;
        }
    }
}

async fn read_states(
    api: &mut Api<'_>,
    users: &BTreeMap<i64, State>,
) -> Result<BTreeMap<i64, State>, ApiError> {
    let mut states = BTreeMap::new();
    for user in users.keys() {
        states.insert(*user, api.state(*user).await?);
    }
    Ok(states)
}
