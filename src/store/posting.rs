//! Writes what an operation decided: users, journal entries, holds and keys, in one statement.
//!
//! The caller has locked the rows of all users, so their balances and versions are known, and are
//! written as plain numbers. Holds are only resolved where they are open. [`write()`] fails unless each
//! row that was to be changed was changed, so a posting is written in full or not at all.
//!
//! Order of locks: the users, which are locked already, then holds, then keys.

use sqlx::PgConnection;

use super::error::Failure;
use crate::ledger::{Balance, Funds, HoldNumber, HoldState, Timestamp, UserId};

/// Everything that one transaction writes, with one stamp.
#[derive(Debug, Default)]
pub struct Posting<'a> {
    /// Each user once.
    pub users: Vec<UserRow>,
    /// The new entries of the journal.
    pub entries: Vec<EntryRow<'a>>,
    /// The new holds.
    pub made: Vec<HoldRow>,
    /// Holds that are no longer open.
    pub resolved: Vec<HoldRow>,
    /// The keys, with what they were used for.
    pub keys: Vec<KeyRow<'a>>,
}

/// A user right after a posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The user.
    pub user: UserId,
    /// The money.
    pub funds: Funds,
    /// The version of the last entry.
    pub version: i64,
}

/// An entry of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRow<'a> {
    /// The user, with funds and version right after the entry.
    pub after: UserRow,
    /// The kind of the operation.
    pub kind: EntryKind,
    /// By how much the balance changed.
    pub amount: i64,
    /// By how much the held money changed.
    pub held_amount: i64,
    /// The key of the operation, if this user owns it.
    pub key: Option<&'a str>,
    /// The client's own text.
    pub reference: Option<&'a str>,
    /// The hold that the entry is about.
    pub hold: Option<HoldNumber>,
    /// The other side: its user and the version of its entry.
    pub peer: Option<(UserId, i64)>,
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A change of one balance.
    Change,
    /// One side of a transfer.
    Transfer,
    /// Money was set aside.
    Hold,
    /// Held money was taken, or came from somebody's hold.
    Capture,
    /// Held money was given back.
    Release,
    /// Held money was given back because its time was over.
    Expiry,
}

impl EntryKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Transfer => "transfer",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Release => "release",
            Self::Expiry => "expiry",
        }
    }
}

/// A hold right after a posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRow {
    /// Whose hold.
    pub user: UserId,
    /// Its number.
    pub hold: HoldNumber,
    /// How much was set aside.
    pub amount: Balance,
    /// How much of it was taken.
    pub captured: Balance,
    /// Its state.
    pub state: HoldState,
    /// When its time is over.
    pub expires_at: Timestamp,
}

/// A key, what it was used for, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow<'a> {
    /// Whom the key belongs to.
    pub user: UserId,
    /// The key.
    pub key: &'a str,
    /// The column `fingerprint`.
    pub fingerprint: String,
    /// The column `answer`.
    pub answer: Option<Vec<i64>>,
}

impl Posting<'_> {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.keys.is_empty()
    }
}

/// `unnest` cannot return arrays, so the answers of all keys are one array, and each key has the
/// position of its own. A moment is a number of microseconds: a timestamp plus that number of them is
/// exact, since PostgreSQL counts in microseconds itself.
///
/// The states of resolved holds are cast as an array. A cluster that shards the tables refuses such a cast
/// of a column in an update, since a cast to an enum is not immutable.
///
/// The inserts return a column that nobody reads; see [`keys`](super::keys) for the reason.
const WRITE: &str = r"
WITH applied AS (
    UPDATE users u
    SET balance = b.balance, held = b.held, version = b.version,
        changed_at = timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
    FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
         AS b(id, balance, held, version)
    WHERE u.id = b.id
    RETURNING u.id
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at,
            key, reference, hold, peer_user, peer_version)
    SELECT user_id, version, kind::change_kind, amount, held_amount, balance, held,
           timestamptz 'epoch' + $1::bigint * interval '1 microsecond',
           key, reference, hold, peer_user, peer_version
    FROM unnest($6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[],
                $12::bigint[], $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[])
         AS e(user_id, version, kind, amount, held_amount, balance, held,
              key, reference, hold, peer_user, peer_version)
    RETURNING user_id
), made AS (
    INSERT INTO holds (user_id, hold, amount, captured, state, created_at, expires_at, resolved_at)
    SELECT user_id, hold, amount, captured, state::hold_state,
           timestamptz 'epoch' + $1::bigint * interval '1 microsecond',
           timestamptz 'epoch' + expires * interval '1 microsecond',
           CASE WHEN state <> 'open'
               THEN timestamptz 'epoch' + $1::bigint * interval '1 microsecond' END
    FROM unnest($18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::text[], $23::bigint[])
         AS m(user_id, hold, amount, captured, state, expires)
    RETURNING user_id
), resolved AS (
    UPDATE holds h
    SET state = r.state, captured = r.captured,
        resolved_at = timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
    FROM unnest($24::bigint[], $25::bigint[], $26::bigint[], $27::text[]::hold_state[])
         AS r(user_id, hold, captured, state)
    WHERE h.user_id = r.user_id AND h.hold = r.hold AND h.state = 'open'
    RETURNING h.user_id
), keyed AS (
    INSERT INTO idempotency_keys (user_id, key, fingerprint, answer)
    SELECT user_id, key, fingerprint, CASE WHEN last > 0 THEN ($33::bigint[])[first:last] END
    FROM unnest($28::bigint[], $29::text[], $30::text[], $31::bigint[], $32::bigint[])
         AS k(user_id, key, fingerprint, first, last)
    RETURNING user_id
)
SELECT (SELECT count(*) FROM applied), (SELECT count(*) FROM journaled),
       (SELECT count(*) FROM resolved)";

/// Writes a posting, inside the transaction that has locked its users. All of it has this stamp.
///
/// # Errors
/// [`Failure::Race`] where a hold was not open, or a user was gone; otherwise as the database says. The
/// transaction must then be rolled back.
pub async fn write(
    connection: &mut PgConnection,
    stamp: Timestamp,
    posting: &Posting<'_>,
) -> Result<(), Failure> {
    let Posting { users, entries, made, resolved, keys } = posting;
    let (mut answers, mut firsts, mut lasts) = (Vec::<i64>::new(), Vec::new(), Vec::new());
    for key in keys {
        let first = answers.len() + 1;
        answers.extend(key.answer.iter().flatten());
        firsts.push(number(first));
        lasts.push(if key.answer.is_some() { number(answers.len()) } else { 0 });
    }
    let written: (i64, i64, i64) = sqlx::query_as(WRITE)
        .bind(stamp.micros())
        .bind(column(users, |row| row.user.get()))
        .bind(column(users, |row| row.funds.balance))
        .bind(column(users, |row| row.funds.held))
        .bind(column(users, |row| row.version))
        .bind(column(entries, |row| row.after.user.get()))
        .bind(column(entries, |row| row.after.version))
        .bind(column(entries, |row| row.kind.as_str()))
        .bind(column(entries, |row| row.amount))
        .bind(column(entries, |row| row.held_amount))
        .bind(column(entries, |row| row.after.funds.balance))
        .bind(column(entries, |row| row.after.funds.held))
        .bind(column(entries, |row| row.key))
        .bind(column(entries, |row| row.reference))
        .bind(column(entries, |row| row.hold))
        .bind(column(entries, |row| row.peer.map(|(user, _)| user.get())))
        .bind(column(entries, |row| row.peer.map(|(_, version)| version)))
        .bind(column(made, |row| row.user.get()))
        .bind(column(made, |row| row.hold))
        .bind(column(made, |row| row.amount))
        .bind(column(made, |row| row.captured))
        .bind(column(made, |row| row.state.to_string()))
        .bind(column(made, |row| row.expires_at.micros()))
        .bind(column(resolved, |row| row.user.get()))
        .bind(column(resolved, |row| row.hold))
        .bind(column(resolved, |row| row.captured))
        .bind(column(resolved, |row| row.state.to_string()))
        .bind(column(keys, |row| row.user.get()))
        .bind(column(keys, |row| row.key))
        .bind(column(keys, |row| row.fingerprint.as_str()))
        .bind(firsts)
        .bind(lasts)
        .bind(answers)
        .fetch_one(connection)
        .await
        .map_err(Failure::in_transaction)?;
    if written != (number(users.len()), number(entries.len()), number(resolved.len())) {
        return Err(Failure::Race("a hold or a user changed without the user's lock".into()));
    }
    Ok(())
}

fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// A number of rows.
fn number(count: usize) -> i64 {
    i64::try_from(count).expect("a posting is bounded far below that")
}
