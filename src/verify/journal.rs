//! Checks each journal for consistency, and its last row against the user, in one pass.

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::report::{Findings, Kind};

/// Walks each user's journal in order and compares its last row with the user's row.
///
/// A user without journal rows is compared with version 0 and balance 0. After a missing row, the
/// balance of the next row is not reported as well, since the balance before it is unknown.
pub(super) async fn check(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut suspects = sqlx::query_as::<_, Suspect>(WALK).persistent(false).fetch(snapshot);
    while let Some(suspect) = suspects.try_next().await? {
        if suspect.has_change {
            report_change(&suspect, findings);
        }
        report_user(&suspect, findings);
    }
    Ok(())
}

/// `walk` follows the order of the primary key: an index scan or one sort, read once. Only suspect
/// rows and the last row of each user reach the join. `last_of` is the user in the last row and
/// null before, so that the join condition is a plain equality, as a full join requires.
///
/// The statement only has to find every row that may be wrong. Rust decides in wider numbers which
/// invariants are broken, so the sum needs no `numeric`, which would take a third of the time. The
/// difference of two balances at or above zero cannot overflow; rows with other balances are
/// suspect. `version_before + 1` cannot overflow: versions are distinct and ascend, so a version
/// before another one is never the greatest number. Amounts are added only where their signs differ.
///
/// `has_form` is what an entry of its kind looks like by itself. What it says of holds and of other
/// users is checked against these in `holds.rs` and `peers.rs`.
const WALK: &str = r"
WITH walk AS (
    SELECT
        user_id, version, kind, amount, held_amount, balance, held, created_at,
        hold, peer_user, peer_version,
        lag(version, 1, 0::bigint) OVER history AS version_before,
        lag(balance, 1, 0::bigint) OVER history AS balance_before,
        lag(held, 1, 0::bigint) OVER history AS held_before,
        lag(created_at) OVER history AS time_before,
        CASE WHEN lead(version) OVER history IS NULL THEN user_id END AS last_of
    FROM balance_changes
    WINDOW history AS (PARTITION BY user_id ORDER BY version)
), formed AS (
    SELECT
        *,
        CASE kind
            WHEN 'change' THEN
                held_amount = 0 AND hold IS NULL AND peer_user IS NULL AND peer_version IS NULL
            WHEN 'transfer' THEN
                held_amount = 0 AND hold IS NULL AND peer_user <> user_id AND peer_version > 0
            WHEN 'capture' THEN CASE
                WHEN hold IS NULL THEN
                    amount > 0 AND held_amount = 0 AND peer_user <> user_id AND peer_version > 0
                WHEN amount >= 0 AND held_amount < 0 THEN
                    amount + held_amount < 0 AND hold < version
                        AND peer_user IS DISTINCT FROM user_id
                        AND (peer_user IS NULL) = (peer_version IS NULL)
                ELSE FALSE
            END
            WHEN 'hold' THEN CASE
                WHEN amount < 0 AND held_amount > 0 THEN
                    amount + held_amount = 0 AND hold = version
                        AND peer_user IS NULL AND peer_version IS NULL
                ELSE FALSE
            END
            ELSE CASE
                WHEN amount > 0 AND held_amount < 0 THEN
                    amount + held_amount = 0 AND hold < version
                        AND peer_user IS NULL AND peer_version IS NULL
                ELSE FALSE
            END
        END IS TRUE AS has_form
    FROM walk
), flagged AS (
    SELECT
        *,
        NOT has_form
            OR (amount = 0 AND held_amount = 0) OR balance < 0 OR held < 0
            OR version <> version_before + 1
            OR coalesce(created_at < time_before, FALSE)
            OR CASE
                WHEN balance >= 0 AND balance_before >= 0 AND held >= 0 AND held_before >= 0
                THEN balance - balance_before <> amount OR held - held_before <> held_amount
                ELSE TRUE
            END AS is_suspect
    FROM formed
), suspects AS (
    SELECT * FROM flagged WHERE is_suspect OR last_of IS NOT NULL
)
SELECT
    coalesce(j.user_id, u.id) AS user_id,
    u.id IS NOT NULL AS user_exists,
    coalesce(u.version, 0) AS user_version,
    coalesce(u.balance, 0) AS user_balance,
    coalesce(u.held, 0) AS user_held,
    u.changed_at::text AS user_time,
    coalesce(j.version, 0) AS version,
    coalesce(j.amount, 0) AS amount,
    coalesce(j.held_amount, 0) AS held_amount,
    coalesce(j.balance, 0) AS balance,
    coalesce(j.held, 0) AS held,
    CASE WHEN NOT j.has_form THEN
        concat(j.kind, ' with the hold ', coalesce(j.hold::text, 'none'), ' and the other side ',
               coalesce(j.peer_user || ', version ' || j.peer_version, 'none'))
    END AS malformed,
    j.created_at::text AS time,
    coalesce(j.version_before, 0) AS version_before,
    coalesce(j.balance_before, 0) AS balance_before,
    coalesce(j.held_before, 0) AS held_before,
    j.time_before::text AS time_before,
    coalesce(j.created_at < j.time_before, FALSE) AS time_is_backwards,
    coalesce(u.changed_at < j.created_at, FALSE) AS user_time_is_backwards,
    j.user_id IS NOT NULL AS has_change,
    j.user_id IS NULL OR j.last_of IS NOT NULL AS journal_ends
FROM suspects AS j
FULL JOIN users AS u ON u.id = j.last_of
WHERE j.is_suspect
    OR u.balance < 0
    OR u.held < 0
    OR u.version < 0
    OR (j.last_of IS NOT NULL AND u.id IS NULL)
    OR u.version <> coalesce(j.version, 0)
    OR u.balance <> coalesce(j.balance, 0)
    OR u.held <> coalesce(j.held, 0)
    OR u.changed_at < j.created_at
    OR CASE WHEN u.balance >= 0 AND u.held >= 0
        THEN u.held > 9223372036854775807 - u.balance ELSE FALSE END
ORDER BY user_id, version
";

/// A journal row that may be wrong, or a user without journal rows who may be wrong.
#[derive(sqlx::FromRow)]
struct Suspect {
    user_id: i64,
    /// Valid only in the last row of a journal.
    user_exists: bool,
    user_version: i64,
    user_balance: i64,
    user_held: i64,
    /// Times are only quoted, as the database shows them.
    user_time: Option<String>,
    version: i64,
    amount: i64,
    held_amount: i64,
    balance: i64,
    held: i64,
    /// The members that an entry of its kind does not have together.
    malformed: Option<String>,
    time: Option<String>,
    version_before: i64,
    balance_before: i64,
    held_before: i64,
    time_before: Option<String>,
    time_is_backwards: bool,
    user_time_is_backwards: bool,
    /// False for a user without journal rows.
    has_change: bool,
    /// Whether this is the last row of its user, or the journal is empty.
    journal_ends: bool,
}

fn report_change(row: &Suspect, findings: &mut Findings) {
    let Suspect { version, amount, held_amount, balance, held, version_before, .. } = *row;
    let mut add = |kind, sentence| findings.add(kind, row.user_id, Some(version), sentence);
    if i128::from(version) != i128::from(version_before) + 1 {
        add(
            Kind::VersionGap,
            match version_before {
                0 => "the journal begins with this version".to_owned(),
                before => format!("the version before it is {before}"),
            },
        );
    } else {
        for (what, before, by, after) in [
            ("", row.balance_before, amount, balance),
            ("held ", row.held_before, held_amount, held),
        ] {
            // Wider than the columns, so that no wrong number overflows here.
            let sum = i128::from(before) + i128::from(by);
            if sum != i128::from(after) {
                let sentence =
                    format!("{what}{before} changed by {by} is {sum}, the journal has {after}");
                add(Kind::WrongSum, sentence);
            }
        }
    }
    if let Some(members) = &row.malformed {
        let sentence = format!("no entry is a {members}, by {amount} and {held_amount} held");
        add(Kind::MalformedEntry, sentence);
    }
    if amount == 0 && held_amount == 0 {
        add(Kind::ZeroAmount, format!("it changes nothing and leaves {balance}"));
    }
    if balance < 0 {
        add(Kind::JournalBelowZero, format!("a change by {amount} leaves {balance}"));
    }
    if held < 0 {
        add(Kind::JournalBelowZero, format!("a change by {held_amount} leaves {held} held"));
    }
    if row.time_is_backwards {
        let (time, before) = (shown(&row.time), shown(&row.time_before));
        add(Kind::TimeBackwards, format!("it is of {time}, the version before it of {before}"));
    }
}

fn report_user(row: &Suspect, findings: &mut Findings) {
    let Suspect { user_version, user_balance, user_held, version, balance, held, .. } = *row;
    if !row.journal_ends {
        return;
    }
    if !row.user_exists {
        let sentence = format!("the journal ends here with a balance of {balance}");
        return findings.add(Kind::NoSuchUser, row.user_id, Some(version), sentence);
    }
    let mut add = |kind, sentence| findings.add(kind, row.user_id, Some(user_version), sentence);
    if user_balance < 0 {
        add(Kind::BalanceBelowZero, format!("the balance is {user_balance}"));
    }
    if user_held < 0 {
        add(Kind::HeldBelowZero, format!("the held money is {user_held}"));
    }
    let sum = i128::from(user_balance) + i128::from(user_held);
    if sum > i128::from(i64::MAX) {
        add(Kind::FundsOutOfRange, format!("{user_balance} and {user_held} held are {sum}"));
    }
    if user_version != version {
        add(
            Kind::VersionMismatch,
            format!("the journal ends at version {version}, the user is at {user_version}"),
        );
    }
    if user_balance != balance {
        add(
            Kind::BalanceMismatch,
            format!("the journal ends with {balance}, the balance is {user_balance}"),
        );
    }
    if user_held != held {
        add(
            Kind::HeldMismatch,
            format!("the journal ends with {held} held, the user has {user_held} held"),
        );
    }
    if row.user_time_is_backwards {
        let (time, user_time) = (shown(&row.time), shown(&row.user_time));
        add(
            Kind::TimeBackwards,
            format!("the journal ends at {time}, the user's next change may be of {user_time}"),
        );
    }
}

fn shown(time: &Option<String>) -> &str {
    time.as_deref().unwrap_or("no time")
}
