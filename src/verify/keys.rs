//! The stored outcomes of keys against the journal.
//!
//! # What is not checked, because it cannot be known
//! Keys expire, may then be used again, and leave journal rows that carry them. So:
//! - A journal row with a key that is not stored is no violation: the key expired.
//! - A *refused* key says nothing about journal rows that carry it: they may be of an earlier use.
//!   Only the two `created_at` could tell which came first, and these are the clock at the *start*
//!   of two transactions: on a clock that was set back, after a fail-over, or with an expiry that
//!   is shorter than a wait for a lock, a sound database would be called broken.
//!
//! An *accepted* key can be held to "at most once" without any clock, see [`check_accepted`].

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::report::{Findings, Kind};

/// Holds each key whose change was accepted against the *newest* journal row that carries it.
///
/// The newest, since a later change with the same key would be a second one. Why no sound database
/// has one: the stored key is that of the last use, for a new use can only be stored after the one
/// before has expired. Key, journal row and user are written in one transaction, and the user's row
/// lock makes versions ascend in the order of commits. So the last use has the highest version.
pub(super) async fn check_accepted(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut wrong =
        sqlx::query_as::<_, AcceptedKey>(ACCEPTED_KEYS).persistent(false).fetch(snapshot);
    while let Some(accepted) = wrong.try_next().await? {
        let AcceptedKey { user_id, key, amount, balance, version } = accepted;
        let instead = match version {
            Some(_) => "the newest change with this key is another one",
            None => "there is no change with this key",
        };
        let sentence =
            format!("key {key:?} has a change by {amount} that led to {balance}, but {instead}");
        findings.add(Kind::KeyWithoutChange, user_id, version, sentence);
    }
    Ok(())
}

/// In two steps, so that the sort of texts (slow in most locales) and the grouping see only what is
/// wrong: first the keys that meet no change or another one (mostly none), then of these those that
/// do not meet their own one after it.
const ACCEPTED_KEYS: &str = r"
WITH doubtful AS (
    SELECT k.user_id, k.key, k.amount, k.balance, c.version AS other_version
    FROM idempotency_keys AS k
    LEFT JOIN balance_changes AS c ON c.user_id = k.user_id AND c.key = k.key
    WHERE k.balance IS NOT NULL
        AND k.amount <> 0
        AND (c.amount, c.balance) IS DISTINCT FROM (k.amount, k.balance)
)
SELECT user_id, key, amount, balance, max(other_version) AS version
FROM doubtful AS d
WHERE NOT EXISTS (
    SELECT
    FROM balance_changes AS own
    WHERE own.user_id = d.user_id
        AND own.key = d.key
        AND own.amount = d.amount
        AND own.balance = d.balance
        AND own.version > d.other_version
)
GROUP BY user_id, key, amount, balance
ORDER BY user_id, key
";

#[derive(sqlx::FromRow)]
struct AcceptedKey {
    user_id: i64,
    key: String,
    amount: i64,
    balance: i64,
    /// Of the newest other change that carries the key.
    version: Option<i64>,
}

/// Holds each key of a creation against the user that it made: the user exists, and an opening
/// balance above zero is the first row of the journal.
pub(super) async fn check_creations(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut wrong =
        sqlx::query_as::<_, CreationKey>(CREATION_KEYS).persistent(false).fetch(snapshot);
    while let Some(creation) = wrong.try_next().await? {
        let CreationKey { user_id, key, balance, user_exists, opening } = creation;
        let instead = match (user_exists, opening) {
            (false, _) => "there is no such user".to_owned(),
            (true, Some(opening)) => format!("the journal opens with {opening}"),
            (true, None) => "the journal has no opening".to_owned(),
        };
        let sentence =
            format!("key {key:?} made this user with a balance of {balance}, but {instead}");
        findings.add(Kind::CreationWithoutUser, user_id, opening.map(|_| 1), sentence);
    }
    Ok(())
}

/// An opening of zero leaves no row: then version 1, if any, is the first change. The keys are read
/// apart, since they do not shard with the users.
const CREATION_KEYS: &str = r"
WITH made AS MATERIALIZED (
    SELECT user_id, key, balance FROM user_creation_keys
)
SELECT k.user_id, k.key, k.balance, u.id IS NOT NULL AS user_exists, c.amount AS opening
FROM made AS k
LEFT JOIN users AS u ON u.id = k.user_id
LEFT JOIN balance_changes AS c ON c.user_id = k.user_id AND c.version = 1
WHERE u.id IS NULL
    OR (k.balance <> 0 AND c.amount IS DISTINCT FROM k.balance)
ORDER BY k.user_id, k.key
";

#[derive(sqlx::FromRow)]
struct CreationKey {
    user_id: i64,
    key: String,
    balance: i64,
    user_exists: bool,
    /// The amount of the journal's first row.
    opening: Option<i64>,
}
