//! Users, holds and histories as the service shows them, all as of one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::api::{Api, ApiError};
use super::operation::HoldId;

/// The pause before all is read again, where a request without an answer was still being applied.
const PAUSE: Duration = Duration::from_millis(200);

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
    pub(crate) kind: String,
    pub(crate) amount: i64,
    pub(crate) held_amount: i64,
    pub(crate) balance: i64,
    pub(crate) held: i64,
    pub(crate) created_at: String,
    pub(crate) reference: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) hold: Option<i64>,
    pub(crate) peer: Option<Peer>,
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
    /// Every balance that the user had, from before the burst until after it.
    pub(crate) fn balances(&self) -> impl Iterator<Item = i64> + '_ {
        [self.before.balance].into_iter().chain(self.entries.iter().map(|entry| entry.balance))
    }
}

/// The state of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct HoldState {
    pub(crate) state: String,
    pub(crate) captured: i64,
}

/// All users of a burst with their histories, and the holds that it resolves.
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
        holds: &[HoldId],
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
            }
            for id in holds {
                books.holds.insert(*id, api.hold(*id).await?);
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
