//! Checks the holds against the journal and against what users have held.

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::report::{Findings, Kind};

/// Compares what each user has held with the sum of its open holds.
pub(super) async fn check_sums(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut wrong = sqlx::query_as::<_, Sum>(SUMS).persistent(false).fetch(snapshot);
    while let Some(Sum { user_id, held, open }) = wrong.try_next().await? {
        let held =
            held.map_or("there is no such user".to_owned(), |held| format!("{held} is held"));
        let sentence = format!("the open holds are {open}, but {held}");
        findings.add(Kind::OpenHoldsMismatch, user_id, None, sentence);
    }
    Ok(())
}

/// Most users have nothing held and no open hold, and reach no join.
const SUMS: &str = r"
SELECT coalesce(u.id, o.user_id) AS user_id, u.held, coalesce(o.sum, 0)::text AS open
FROM (
    SELECT user_id, sum(amount) AS sum FROM holds WHERE state = 'open' GROUP BY user_id
) AS o
FULL JOIN (SELECT id, held FROM users WHERE held <> 0) AS u ON u.id = o.user_id
WHERE coalesce(o.sum, 0) <> coalesce(u.held, 0)
ORDER BY user_id
";

#[derive(sqlx::FromRow)]
struct Sum {
    user_id: i64,
    /// `None` for a user who has nothing held or does not exist.
    held: Option<i64>,
    /// In decimal, since it may exceed 64 bits.
    open: String,
}

/// Compares each hold with the entries that name it, in their order: the first one makes it, the
/// second one resolves it if it is not open, and there is no third one.
pub(super) async fn check_entries(
    snapshot: &mut PgConnection,
    findings: &mut Findings,
) -> Result<(), sqlx::Error> {
    let mut wrong = sqlx::query_as::<_, Suspect>(WALK).persistent(false).fetch(snapshot);
    while let Some(suspect) = wrong.try_next().await? {
        report(&suspect, findings);
    }
    Ok(())
}

/// The entries that name a hold are read and sorted once, by hold, and then merged with the holds,
/// whose primary key has this order.
///
/// A hold whose own columns contradict each other is reported once. Its amounts are compared with
/// nothing, so none of them overflows.
const WALK: &str = r"
WITH walk AS (
    SELECT
        user_id, hold, version, kind, amount, held_amount, created_at, key,
        row_number() OVER history AS position,
        lead(version) OVER history IS NULL AS is_last
    FROM balance_changes
    WHERE hold IS NOT NULL
    WINDOW history AS (PARTITION BY user_id, hold ORDER BY version)
), compared AS (
    SELECT
        coalesce(h.user_id, e.user_id) AS user_id,
        coalesce(h.hold, e.hold) AS hold,
        e.version,
        CASE
            WHEN h.hold IS NULL THEN 'missing'
            WHEN e.position > 2 THEN 'again'
            WHEN h.amount < 1 OR h.created_at >= h.expires_at OR CASE h.state
                WHEN 'open' THEN h.captured = 0 AND h.resolved_at IS NULL
                WHEN 'captured' THEN
                    h.captured BETWEEN 1 AND h.amount AND h.resolved_at < h.expires_at
                WHEN 'released' THEN h.captured = 0 AND h.resolved_at < h.expires_at
                ELSE h.captured = 0 AND h.resolved_at >= h.expires_at
            END IS NOT TRUE THEN CASE WHEN e.position = 2 THEN NULL ELSE 'form' END
            WHEN e.hold IS NULL THEN 'unmade'
            WHEN e.position = 1 THEN CASE
                WHEN e.kind <> 'hold' OR e.version <> h.hold OR e.held_amount <> h.amount
                    OR e.created_at <> h.created_at THEN 'made'
                WHEN e.is_last AND h.state <> 'open' THEN 'unresolved'
            END
            WHEN e.amount <> h.amount - h.captured OR e.held_amount <> -h.amount
                OR e.created_at IS DISTINCT FROM h.resolved_at
                OR (e.kind = 'expiry' AND e.key IS NOT NULL)
                OR h.state <> CASE e.kind
                    WHEN 'capture' THEN 'captured'::hold_state
                    WHEN 'release' THEN 'released'
                    WHEN 'expiry' THEN 'expired'
                    ELSE 'open'
                END THEN 'resolved'
        END AS problem,
        e.kind, e.amount, e.held_amount, e.created_at, e.key,
        h.state, h.amount AS hold_amount, h.captured, h.created_at AS made_at, h.expires_at,
        h.resolved_at
    FROM walk AS e
    FULL JOIN holds AS h ON h.user_id = e.user_id AND h.hold = e.hold
)
SELECT
    user_id, hold, version, problem,
    concat('of ', hold_amount, ', ', state, ', ', captured, ' captured, made at ', made_at,
           ', expires at ', expires_at, ', resolved at ', coalesce(resolved_at::text, 'no time'))
        AS shown,
    concat('a ', kind, ' by ', amount, ' and ', held_amount, ' held at ', created_at,
           CASE WHEN key IS NOT NULL THEN ' with a key' END) AS entry
FROM compared
WHERE problem IS NOT NULL
ORDER BY user_id, hold, version
";

/// A hold with one of the entries that name it, of which one is wrong.
#[derive(sqlx::FromRow)]
struct Suspect {
    user_id: i64,
    hold: i64,
    /// `None` if no entry names the hold.
    version: Option<i64>,
    problem: String,
    /// The columns of the hold, if it exists.
    shown: String,
    /// The columns of the entry, if there is one.
    entry: String,
}

fn report(suspect: &Suspect, findings: &mut Findings) {
    let Suspect { user_id, hold, version, problem, shown, entry } = suspect;
    let sentence = match problem.as_str() {
        "missing" => format!("{entry} names hold {hold}, which does not exist"),
        "again" => format!("{entry} names hold {hold}, which was resolved before: it is {shown}"),
        "form" => format!("no hold is {shown}"),
        "unmade" => format!("the hold is {shown}, but no entry names it"),
        "made" => format!("hold {hold} is {shown}, but the first entry about it is {entry}"),
        "unresolved" => format!("the hold is {shown}, but no entry has resolved it"),
        _ => format!("hold {hold} is {shown}, but the second entry about it is {entry}"),
    };
    let kind = if problem == "again" { Kind::HoldResolvedAgain } else { Kind::HoldMismatch };
    findings.add(kind, *user_id, version.or(Some(*hold)), sentence);
}
