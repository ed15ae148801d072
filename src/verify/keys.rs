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
//!
//! The fingerprint of an atomic bulk is a digest, and the key stands in the first entry of its owner,
//! if the bulk has changed that user at all. So a bulk without an entry is no violation, and of its
//! entry only the balance is compared, with those that were answered.

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::report::{Findings, Kind};

/// Compares each key of an accepted operation with the *newest* journal row that has this key.
///
/// A later operation with the same key would be a second one. A sound database has none: a key is
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
        let AcceptedKey { user_id, key, fingerprint, answer, version } = accepted;
        let instead = match version {
            Some(_) => "the newest entry with this key is another one",
            None => "there is no entry with this key",
        };
        let sentence =
            format!("key {key:?} stands for {fingerprint:?}, which led to {answer}, but {instead}");
        findings.add(Kind::KeyWithoutChange, user_id, version, sentence);
    }
    Ok(())
}

/// `used` are the journal rows with a key, each with the fingerprint and the answer of its operation,
/// as text. What a row does not say is left out on both sides: the balance of the payee
/// ([`check_payees`]) and all of a bulk but one balance. A capture of everything may have been asked
/// for in two ways. A sign that is cut off instead of turned never overflows.
///
/// `accepted` are the keys that must have a row, or of a bulk may have one. A change of zero only read,
/// so its key has none, and the answer to a bulk that was refused is one number below zero.
///
/// Two steps keep the sort of texts (slow in most locales) and the grouping small. The first finds
/// keys without a row or with a different one (mostly none). The second drops those whose own row
/// comes after the different one, and of bulks those without a row of their own. Each reads `used` from
/// the tables, but the second one only for the keys that are left.
const ACCEPTED_KEYS: &str = r"
WITH used AS NOT MATERIALIZED (
    SELECT
        c.user_id, c.key, c.version, c.balance,
        CASE c.kind
            WHEN 'change' THEN 'change ' || c.amount || coalesce(' ' || c.reference, '')
            WHEN 'transfer' THEN
                'transfer ' || c.peer_user || ' ' || ltrim(c.amount::text, '-')
                    || coalesce(' ' || c.reference, '')
            WHEN 'hold' THEN CASE WHEN isfinite(h.expires_at) AND isfinite(h.created_at) THEN
                'hold ' || c.held_amount || ' '
                    || trim_scale(extract(epoch FROM h.expires_at - h.created_at))
                    || coalesce(' ' || c.reference, '')
            END
            WHEN 'capture' THEN
                'capture ' || c.hold || ' ' || -(c.held_amount::numeric + c.amount) || ' '
                    || coalesce(c.peer_user::text, '-')
            WHEN 'release' THEN 'release ' || c.hold
        END AS fingerprint,
        CASE WHEN c.kind = 'capture' AND c.amount = 0 THEN
            'capture ' || c.hold || ' all ' || coalesce(c.peer_user::text, '-')
        END AS of_everything,
        CASE c.kind
            WHEN 'change' THEN c.balance::text
            WHEN 'transfer' THEN c.balance || ',' || c.version || ',' || c.peer_version
            WHEN 'hold' THEN
                c.version || ',' || c.balance || ',' || c.held || ','
                    || trim_scale(extract(epoch FROM h.expires_at) * 1000000)
            WHEN 'capture' THEN
                -(c.held_amount::numeric + c.amount) || ',' || c.balance || ',' || c.held
            WHEN 'release' THEN c.balance || ',' || c.held
        END AS answer,
        c.kind = 'change' AS may_be_of_bulk
    FROM balance_changes AS c
    LEFT JOIN holds AS h ON h.user_id = c.user_id AND h.hold = c.version AND c.kind = 'hold'
    WHERE c.key IS NOT NULL
), accepted AS NOT MATERIALIZED (
    SELECT
        user_id, key, fingerprint, answer,
        array_to_string(
            CASE WHEN starts_with(fingerprint, 'transfer ')
                THEN answer[1:2] || answer[4:]
                ELSE answer
            END, ',') AS compared,
        starts_with(fingerprint, 'all ') AS is_bulk
    FROM idempotency_keys
    WHERE answer IS NOT NULL
        AND fingerprint <> 'change 0'
        AND NOT starts_with(fingerprint, 'change 0 ')
        AND NOT (starts_with(fingerprint, 'all ') AND answer[1] < 0)
), doubtful AS MATERIALIZED (
    SELECT k.*, c.version AS other_version
    FROM accepted AS k
    LEFT JOIN used AS c ON c.user_id = k.user_id AND c.key = k.key
    WHERE CASE
        WHEN k.is_bulk THEN c.may_be_of_bulk AND c.balance = ANY (k.answer)
        ELSE k.fingerprint IN (c.fingerprint, c.of_everything) AND k.compared = c.answer
    END IS NOT TRUE
), own AS MATERIALIZED (
    SELECT d.user_id, d.key, max(c.version) AS version
    FROM doubtful AS d
    JOIN used AS c ON c.user_id = d.user_id AND c.key = d.key
    WHERE CASE
        WHEN d.is_bulk THEN c.may_be_of_bulk AND c.balance = ANY (d.answer)
        ELSE d.fingerprint IN (c.fingerprint, c.of_everything) AND d.compared = c.answer
    END
    GROUP BY d.user_id, d.key
)
SELECT
    d.user_id, d.key, d.fingerprint, d.answer::text AS answer, max(d.other_version) AS version
FROM doubtful AS d
LEFT JOIN own ON own.user_id = d.user_id AND own.key = d.key
GROUP BY d.user_id, d.key, d.fingerprint, d.answer, d.is_bulk, own.version
HAVING own.version < max(d.other_version) OR (own.version IS NULL AND NOT d.is_bulk)
ORDER BY d.user_id, d.key
";

#[derive(sqlx::FromRow)]
struct AcceptedKey {
    user_id: i64,
    key: String,
    fingerprint: String,
    /// As the database shows it.
    answer: String,
    /// The version of the newest different entry with this key.
    version: Option<i64>,
}

/// Compares the payee's balance that a transfer has answered with the payee's journal. The rest of the
/// answer is checked by [`check_accepted`].
pub(super) async fn check_payees(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut wrong = sqlx::query_as::<_, Paid>(PAYEES).persistent(false).fetch(snapshot);
    while let Some(Paid { user_id, key, version, answer, peer_user, balance }) =
        wrong.try_next().await?
    {
        let sentence = format!(
            "key {key:?} stands for a transfer that led to {answer}, but user {peer_user} had \
             {balance} after it"
        );
        findings.add(Kind::KeyWithoutChange, user_id, Some(version), sentence);
    }
    Ok(())
}

/// The transfers are read in a CTE of their own, since they do not shard with the payees.
const PAYEES: &str = r"
WITH paid AS MATERIALIZED (
    SELECT k.user_id, k.key, k.answer, c.version, c.peer_user, c.peer_version
    FROM idempotency_keys AS k
    JOIN balance_changes AS c
        ON c.user_id = k.user_id AND c.version = k.answer[2] AND c.key = k.key
    WHERE starts_with(k.fingerprint, 'transfer ') AND c.peer_user IS NOT NULL
)
SELECT k.user_id, k.key, k.version, k.answer::text, k.peer_user, p.balance
FROM paid AS k
JOIN balance_changes AS p ON p.user_id = k.peer_user AND p.version = k.peer_version
WHERE p.balance IS DISTINCT FROM k.answer[3]
ORDER BY k.user_id, k.key
";

#[derive(sqlx::FromRow)]
struct Paid {
    user_id: i64,
    key: String,
    version: i64,
    /// As the database shows it.
    answer: String,
    peer_user: i64,
    /// The payee's, right after the transfer.
    balance: i64,
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
