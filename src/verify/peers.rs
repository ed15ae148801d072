//! Checks that the two entries of a transfer, or of a capture to somebody, name each other.

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::report::{Findings, Kind};

/// Compares each entry that names another one with that one: it names this one back, has the same kind
/// and time, and `amount + held_amount` of the two are opposite. Only the payer's may have a key.
pub(super) async fn check(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut wrong = sqlx::query_as::<_, Unpaired>(UNPAIRED).persistent(false).fetch(snapshot);
    while let Some(entry) = wrong.try_next().await? {
        let Unpaired { user_id, version, shown, peer_user, peer_version, peer_shown } = entry;
        let peer = peer_shown.unwrap_or_else(|| "which does not exist".to_owned());
        let sentence = format!("{shown} names version {peer_version} of user {peer_user}, {peer}");
        findings.add(Kind::PeerMismatch, user_id, Some(version), sentence);
    }
    Ok(())
}

/// Nothing is joined to find them. Each entry is written as the payment that it describes: who pays,
/// who is paid, how much, when. Two entries that describe the same payment are its two sides, because
/// user and version of an entry are unique: one entry is at the payer's place and one at the payee's.
/// Any other entry is alone. That is one scan and one grouping of the entries that name another one.
///
/// Amounts are added where their signs differ, and a number is negated where it is not below zero, so
/// nothing overflows. An entry without such a sum is alone; the walk over the journal reports it, too.
///
/// Only the entries that are alone are joined, each time with a CTE of its own: a cluster that shards
/// by user does not join two of its tables on another user.
const UNPAIRED: &str = r"
WITH payments AS (
    SELECT
        CASE WHEN amount < 0 OR held_amount < 0 THEN user_id ELSE peer_user END AS payer,
        CASE WHEN amount < 0 OR held_amount < 0 THEN version ELSE peer_version END AS payer_version,
        CASE WHEN amount < 0 OR held_amount < 0 THEN peer_user ELSE user_id END AS payee,
        CASE WHEN amount < 0 OR held_amount < 0 THEN peer_version ELSE version END AS payee_version,
        CASE
            WHEN held_amount = 0 THEN CASE WHEN amount < 0 THEN amount ELSE -amount END
            WHEN held_amount < 0 AND amount >= 0 THEN amount + held_amount
        END AS paid,
        amount > 0 AND held_amount = 0 AND key IS NOT NULL AS is_payee_with_key,
        user_id, version, kind, created_at
    FROM balance_changes
    WHERE peer_user IS NOT NULL AND peer_version IS NOT NULL
), alone AS MATERIALIZED (
    SELECT min(user_id) AS user_id, min(version) AS version
    FROM payments
    GROUP BY payer, payer_version, payee, payee_version, paid, is_payee_with_key, kind, created_at
    HAVING count(*) <> 2
), shown AS MATERIALIZED (
    SELECT
        c.user_id, c.version, c.peer_user, c.peer_version,
        concat('a ', c.kind, ' by ', c.amount, ' and ', c.held_amount, ' held at ', c.created_at,
               CASE WHEN c.key IS NOT NULL THEN ' with a key' END) AS shown
    FROM alone AS a
    JOIN balance_changes AS c ON c.user_id = a.user_id AND c.version = a.version
)
SELECT
    s.user_id, s.version, s.shown, s.peer_user, s.peer_version,
    CASE WHEN p.user_id IS NOT NULL THEN
        concat('a ', p.kind, ' by ', p.amount, ' and ', p.held_amount, ' held at ', p.created_at,
               CASE WHEN p.key IS NOT NULL THEN ' with a key' END,
               ' that names ',
               coalesce('version ' || p.peer_version || ' of user ' || p.peer_user, 'none'))
    END AS peer_shown
FROM shown AS s
LEFT JOIN balance_changes AS p ON p.user_id = s.peer_user AND p.version = s.peer_version
ORDER BY s.user_id, s.version
";

/// An entry whose other side does not describe the same payment.
#[derive(sqlx::FromRow)]
struct Unpaired {
    user_id: i64,
    version: i64,
    shown: String,
    peer_user: i64,
    peer_version: i64,
    /// `None` if the other side does not exist.
    peer_shown: Option<String>,
}
