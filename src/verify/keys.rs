//! Checks the stored keys against the journal.
//!
//! # What cannot be checked
//! Keys expire and may then be used again, while the journal keeps the rows of the earlier use. So:
//! - A journal row whose key is not stored is no violation: the key has expired.
//! - A *refused* key proves nothing about journal rows with this key: they may be of an earlier
//!   use. Only the two `created_at` could tell which came first, and each is the clock at the
//!   *start* of its transaction. A sound database would fail the check after a clock was set back,
//!   after a fail-over, or with an expiry shorter than a wait for a lock.
//!
//! For an *accepted* key, "at most once" can be checked without a clock: see [`check_accepted`].

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::report::{Findings, Kind};

/// Compares each key of an accepted change with the *newest* journal row that has this key.
///
/// A later change with the same key would be a second one. A sound database has none: a key is
/// stored again only after its earlier use has expired, so the stored key is that of the last use.
/// Key, journal row and user are written in one transaction, and the lock of the user's row makes
/// versions ascend in commit order. So the last use has the highest version.
pub(super) async fn check_accepted(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut wrong =
        sqlx::query_as::<_, AcceptedKey>(ACCEPTED_KEYS).persistent(false).fetch(snapshot);
    while let Some(accepted) = wrong.try_next().await? {
        let AcceptedKey { user_id, key, fingerprint, balance, version } = accepted;
        let instead = match version {
            Some(_) => "the newest change with this key is another one",
            None => "there is no change with this key",
        };
        let sentence = format!(
            "key {key:?} stands for {fingerprint:?}, which led to {balance}, but {instead}"
        );
        findings.add(Kind::KeyWithoutChange, user_id, version, sentence);
    }
    Ok(())
}

/// A change of zero only read, so its key has no journal row.
///
/// Two steps keep the sort of texts (slow in most locales) and the grouping small. The first finds
/// keys without a change or with a different change (mostly none). The second drops those whose own
/// change comes after the different one.
const ACCEPTED_KEYS: &str = r"
WITH doubtful AS (
    SELECT k.user_id, k.key, k.fingerprint, k.answer[1] AS balance, c.version AS other_version
    FROM idempotency_keys AS k
    LEFT JOIN balance_changes AS c ON c.user_id = k.user_id AND c.key = k.key
    WHERE k.answer IS NOT NULL AND starts_with(k.fingerprint, 'change ')
        AND k.fingerprint <> 'change 0'
        AND NOT starts_with(k.fingerprint, 'change 0 ')
        AND ('change ' || c.amount || coalesce(' ' || c.reference, ''), c.balance)
            IS DISTINCT FROM (k.fingerprint, k.answer[1])
)
SELECT user_id, key, fingerprint, balance, max(other_version) AS version
FROM doubtful AS d
WHERE NOT EXISTS (
    SELECT
    FROM balance_changes AS own
    WHERE own.user_id = d.user_id
        AND own.key = d.key
        AND 'change ' || own.amount || coalesce(' ' || own.reference, '') = d.fingerprint
        AND own.balance = d.balance
        AND own.version > d.other_version
)
GROUP BY user_id, key, fingerprint, balance
ORDER BY user_id, key
";

#[derive(sqlx::FromRow)]
struct AcceptedKey {
    user_id: i64,
    key: String,
    fingerprint: String,
    balance: i64,
    /// The version of the newest different change with this key.
    version: Option<i64>,
}

/// Compares each key of a creation with its user: the user exists, and an opening balance above
/// zero is the first row of the journal.
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

/// An opening of zero writes no journal row: version 1, if any, is then the first change. The keys
/// are read in a CTE of their own, since they do not shard with the users.
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
