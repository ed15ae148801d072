//! The expiry of holds: their money goes back to the balance.
//!
//! The stamp of an operation decides whether a hold has expired, not the moment at which somebody
//! notices. So a debit that would be refused while an expired hold of its user is open writes nothing:
//! [`release`] first gives the money back, in a commit of its own, and the debit is decided again. The
//! same happens before a capture or a release is answered that comes too late. A sweep
//! ([`run`]) does the rest. Until an expiry is journaled, reads show the hold as open.
//!
//! # Why it is exact
//! [`release`] locks the user's row, as every operation does that resolves a hold, and reads the open
//! holds in a later statement. So no other operation can resolve them at the same time, and each hold
//! expires at most once, whoever releases it.
//!
//! # When the process dies
//! A release is one transaction: it happens in full or not at all. Whoever needs the money next
//! releases it then.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

use super::error::Failure;
use super::own_session::OwnSession;
use super::posting::{self, EntryKind, EntryRow, HoldRow, Posting, UserRow};
use super::session::{BoxFuture, Connector};
use crate::ledger::{ChangeError, Funds, HoldState, Resolution, Timestamp, UserId};

/// The most holds that are released in one commit: some milliseconds of work.
const HOLDS_MAX: i64 = 500;

/// How many holds the sweep looks at in one statement.
const PAGE: i64 = 500;

/// How long one round of the sweep may take. The next one continues where it ended.
const ROUND_MAX: Duration = Duration::from_secs(10);

/// The sweep waits for a locked row for a short time only: it comes back.
const SESSION: &str = "SELECT set_config('lock_timeout', '50ms', false)";

/// Releases expired holds of a user, at most `HOLDS_MAX`. Returns how many.
///
/// `at` is the stamp of the operation that found them expired, where it has one. It may be ahead of this
/// user's clock: a batch has the stamp of the user who is furthest ahead.
///
/// # Errors
/// As the database says. Nothing is unknown: it can be repeated.
pub async fn release(
    connection: &mut PgConnection,
    user: UserId,
    at: Option<Timestamp>,
) -> Result<usize, Failure> {
    let mut transaction = connection.begin().await.map_err(Failure::in_transaction)?;
    match release_in(&mut transaction, user, at).await {
        Ok(0) => {
            transaction.rollback().await.map_err(Failure::in_transaction)?;
            Ok(0)
        }
        Ok(released) => {
            transaction.commit().await.map_err(Failure::in_transaction)?;
            Ok(released)
        }
        Err(failure) => {
            // If this fails as well, the session fails its next check and is replaced.
            let _ = transaction.rollback().await;
            Err(failure)
        }
    }
}

async fn release_in(
    connection: &mut PgConnection,
    user: UserId,
    at: Option<Timestamp>,
) -> Result<usize, Failure> {
    type UserColumns = (i64, i64, i64);
    let row: Option<UserColumns> =
        sqlx::query_as("SELECT balance, held, version FROM users WHERE id = $1 FOR UPDATE")
            .bind(user.get())
            .fetch_optional(&mut *connection)
            .await
            .map_err(Failure::in_transaction)?;
    let Some((balance, held, version)) = row else { return Ok(0) };
    let due: Vec<Due> = sqlx::query_as(DUE)
        .bind(user.get())
        .bind(HOLDS_MAX)
        .bind(at.map_or(0, Timestamp::micros))
        .fetch_all(&mut *connection)
        .await
        .map_err(Failure::in_transaction)?;
    let Some(first) = due.first() else { return Ok(0) };
    let stamp = Timestamp::from_micros(first.stamp);
    let mut after = UserRow { user, funds: Funds { balance, held }, version };
    let mut posting = Posting::default();
    for due in &due {
        after.funds.balance += due.amount;
        after.funds.held -= due.amount;
        after.version += 1;
        posting.entries.push(EntryRow {
            after,
            kind: EntryKind::Expiry,
            amount: due.amount,
            held_amount: -due.amount,
            key: None,
            reference: None,
            hold: Some(due.hold),
            peer: None,
        });
        posting.resolved.push(HoldRow {
            user,
            hold: due.hold,
            amount: due.amount,
            captured: 0,
            state: HoldState::Resolved(Resolution::Expired),
            expires_at: Timestamp::from_micros(due.expires),
        });
    }
    posting.users.push(after);
    posting::write(connection, stamp, &posting).await?;
    Ok(due.len())
}

/// The oldest expired holds of a user, with the stamp of an operation that runs now.
const DUE: &str = r"
SELECT h.hold, h.amount,
       (extract(epoch FROM h.expires_at) * 1000000)::bigint AS expires,
       (extract(epoch FROM greatest(statement_timestamp(), u.changed_at,
           timestamptz 'epoch' + $3::bigint * interval '1 microsecond')) * 1000000)::bigint AS stamp
FROM users u JOIN holds h ON h.user_id = u.id
WHERE u.id = $1 AND h.user_id = $1 AND h.state = 'open'
  AND h.expires_at <= greatest(statement_timestamp(), u.changed_at,
      timestamptz 'epoch' + $3::bigint * interval '1 microsecond')
ORDER BY h.expires_at, h.hold
LIMIT $2";

#[derive(sqlx::FromRow)]
struct Due {
    hold: i64,
    amount: i64,
    expires: i64,
    stamp: i64,
}

/// Releases expired holds once in each `period`, until the future is dropped. Any number of instances
/// may do that at the same time.
pub async fn run(connector: Connector, period: Duration) {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = Sweep { session: OwnSession::new(connector, SESSION), after: START };
    loop {
        ticks.tick().await;
        match sweep.round().await {
            Ok(0) => {}
            Ok(released) => debug!(released, "holds expired"),
            Err(error) => warn!(%error, "cannot release expired holds"),
        }
    }
}

/// Where the sweep is in the order of expiry: the time, the user, and the hold.
type Place = (i64, i64, i64);

/// Before all holds.
const START: Place = (0, 0, 0);

/// Walks all expired holds in the order in which they have expired. A user whose row is locked is left
/// for the next walk, so one held row keeps nobody else's money.
struct Sweep {
    session: OwnSession,
    after: Place,
}

impl Sweep {
    /// Walks on for at most [`ROUND_MAX`]. Returns how many holds it released.
    async fn round(&mut self) -> Result<usize, ChangeError> {
        let began = Instant::now();
        let mut released = 0;
        while began.elapsed() < ROUND_MAX {
            let after = self.after;
            let page = self.run(|connection| Box::pin(page(connection, after))).await?;
            let Some(last) = page.last() else {
                self.after = START;
                break;
            };
            self.after = *last;
            let mut users: Vec<i64> = page.iter().map(|(_, user, _)| *user).collect();
            users.sort_unstable();
            users.dedup();
            for user in users.into_iter().filter_map(UserId::new) {
                released += self.release(user).await?;
            }
        }
        Ok(released)
    }

    async fn release(&mut self, user: UserId) -> Result<usize, ChangeError> {
        let released = self.run(|connection| Box::pin(release(connection, user, None))).await;
        match released {
            Err(Failure::Locked(_) | Failure::Race(_)) => Ok(0),
            // One user whose rows contradict each other stops nobody else's expiry.
            Err(failure) if !failure.costs_session() => {
                let error = ChangeError::from(failure);
                warn!(%user, %error, "cannot release expired holds of a user");
                Ok(0)
            }
            released => Ok(released?),
        }
    }

    /// Runs work on the sweep's own session.
    async fn run<T, W>(&mut self, work: W) -> Result<T, Failure>
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let session = self.session.take().await?;
        let (result, spent) = session.run(self.session.limits().answer, work).await;
        self.session.give_back(spent).await;
        result
    }
}

/// The next expired holds behind a place.
async fn page(
    connection: &mut PgConnection,
    (expires, user, hold): Place,
) -> Result<Vec<Place>, Failure> {
    sqlx::query_as(
        r"
SELECT (extract(epoch FROM expires_at) * 1000000)::bigint, user_id, hold
FROM holds
WHERE state = 'open' AND expires_at <= statement_timestamp()
  AND (expires_at, user_id, hold)
      > (timestamptz 'epoch' + $1::bigint * interval '1 microsecond', $2, $3)
ORDER BY expires_at, user_id, hold
LIMIT $4",
    )
    .bind(expires)
    .bind(user)
    .bind(hold)
    .bind(PAGE)
    .fetch_all(connection)
    .await
    .map_err(Failure::before_commit)
}
