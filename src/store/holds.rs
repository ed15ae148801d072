//! Reads of holds.
//!
//! A user's balance, held money and holds come from one statement, so from one snapshot. A hold whose
//! time is over stays open until its expiry is in the journal: until then its money is held.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use super::Store;
use super::error::Failure;
use super::users::User;
use crate::ledger::{Balance, ChangeError, HoldNumber, HoldState, UserId};

/// How many holds a page of resolved ones reads at most: no index has their state. Such a page takes
/// some milliseconds, however rare the state is.
pub const SCANNED_MAX: i64 = 5_000;

/// One hold, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Hold {
    /// Its number among the user's holds.
    pub hold: HoldNumber,
    /// How much was set aside, in minor units.
    pub amount: Balance,
    /// How much of it was captured; the rest was released with it.
    pub captured: Balance,
    /// `open`, or how it has ended.
    pub state: String,
    /// The client's own text.
    pub reference: Option<String>,
    /// RFC 3339, UTC, with microseconds.
    pub created_at: String,
    /// From this moment on it can no longer be captured.
    pub expires_at: String,
    /// When it has ended.
    pub resolved_at: Option<String>,
}

/// Some of a user's holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only holds in this state.
    pub state: Option<HoldState>,
    /// Only holds with numbers below this one.
    pub before: HoldNumber,
    /// At most so many holds, at least 1.
    pub limit: i64,
}

/// Holds of a user, newest first, and the user in the same snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Whose holds.
    pub user: User,
    /// As many as were asked for, or fewer.
    pub holds: Vec<Hold>,
    /// The next page begins before this hold; `None` on the last page.
    pub next: Option<HoldNumber>,
}

impl Store {
    /// One hold.
    ///
    /// # Errors
    /// [`ChangeError::UserNotFound`], [`ChangeError::HoldNotFound`], or an error of the database.
    pub async fn hold(&self, user: UserId, hold: HoldNumber) -> Result<Hold, ChangeError> {
        self.reads().read(Some(user), move |connection| Box::pin(one(connection, user, hold))).await
    }

    /// A page of a user's holds.
    ///
    /// # Errors
    /// [`ChangeError::UserNotFound`], or an error of the database.
    pub async fn holds(&self, user: UserId, selection: Selection) -> Result<Page, ChangeError> {
        let reading = self
            .reads()
            .read(Some(user), move |connection| Box::pin(page(connection, user, selection)));
        reading.await
    }
}

/// Selects a user, and its holds from a subquery with the columns of the table. Where the subquery
/// reads only a part of the holds, `$scanned_to` is the last one that it has read.
macro_rules! holds_of_user {
    ($subquery:literal, $scanned_to:literal) => {
        concat!(
            r#"
SELECT u.balance, u.held, u.version, "#,
            $scanned_to,
            r#" AS scanned_to,
       h.hold, h.amount, h.captured, h.state::text, c.reference,
       to_char(h.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
       to_char(h.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS expires_at,
       to_char(h.resolved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS resolved_at
FROM users u
LEFT JOIN ("#,
            $subquery,
            r#") AS h ON h.user_id = u.id
LEFT JOIN balance_changes c ON c.user_id = u.id AND c.version = h.hold
WHERE u.id = $1
ORDER BY h.hold DESC"#
        )
    };
}

const ONE: &str =
    holds_of_user!("SELECT * FROM holds WHERE user_id = $1 AND hold = $2", "NULL::bigint");

/// Reads the primary key backwards.
const PAGE: &str = holds_of_user!(
    "SELECT * FROM holds WHERE user_id = $1 AND hold < $2 ORDER BY hold DESC LIMIT $3",
    "NULL::bigint"
);

/// Reads the index of the open holds backwards. It is used for this constant only, not for a parameter.
const PAGE_OF_OPEN: &str = holds_of_user!(
    "SELECT * FROM holds WHERE user_id = $1 AND hold < $2 AND state = 'open'
     ORDER BY hold DESC LIMIT $3",
    "NULL::bigint"
);

/// Reads the primary key backwards, for a bounded number of rows.
const PAGE_OF_RESOLVED: &str = holds_of_user!(
    "SELECT * FROM (
         SELECT * FROM holds WHERE user_id = $1 AND hold < $2 ORDER BY hold DESC LIMIT $5
     ) AS scanned
     WHERE state = $4::text::hold_state ORDER BY hold DESC LIMIT $3",
    "(SELECT hold FROM holds WHERE user_id = $1 AND hold < $2
      ORDER BY hold DESC OFFSET $5 - 1 LIMIT 1)"
);

/// A user, and one of its holds. A user without holds comes once.
struct OfUser {
    user: User,
    scanned_to: Option<HoldNumber>,
    hold: Option<Hold>,
}

impl FromRow<'_, PgRow> for OfUser {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let number: Option<HoldNumber> = row.try_get("hold")?;
        Ok(Self {
            user: User::from_row(row)?,
            scanned_to: row.try_get("scanned_to")?,
            hold: number.map(|_| Hold::from_row(row)).transpose()?,
        })
    }
}

async fn one(
    connection: &mut PgConnection,
    user: UserId,
    hold: HoldNumber,
) -> Result<Hold, Failure> {
    let row: Option<OfUser> = sqlx::query_as(ONE)
        .bind(user.get())
        .bind(hold)
        .fetch_optional(connection)
        .await
        .map_err(Failure::before_commit)?;
    let row = row.ok_or(ChangeError::UserNotFound)?;
    Ok(row.hold.ok_or(ChangeError::HoldNotFound)?)
}

async fn page(
    connection: &mut PgConnection,
    user: UserId,
    Selection { state, before, limit }: Selection,
) -> Result<Page, Failure> {
    let sql = match state {
        None => PAGE,
        Some(HoldState::Open) => PAGE_OF_OPEN,
        Some(HoldState::Resolved(_)) => PAGE_OF_RESOLVED,
    };
    // One hold beyond the limit tells whether there is a next page.
    let mut query = sqlx::query_as(sql).bind(user.get()).bind(before).bind(limit + 1);
    if let Some(HoldState::Resolved(resolution)) = state {
        query = query.bind(resolution.to_string()).bind(SCANNED_MAX);
    }
    let rows: Vec<OfUser> = query.fetch_all(connection).await.map_err(Failure::before_commit)?;
    let first = rows.first().ok_or(ChangeError::UserNotFound)?;
    let (user, scanned_to) = (first.user, first.scanned_to);
    let mut holds: Vec<Hold> = rows.into_iter().filter_map(|row| row.hold).collect();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let next = if holds.len() > limit {
        holds.truncate(limit);
        holds.last().map(|hold| hold.hold)
    } else {
        scanned_to
    };
    Ok(Page { user, holds, next })
}
