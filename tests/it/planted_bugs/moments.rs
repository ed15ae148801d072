//! Balances at a moment, and right after an entry.

use serde_json::json;
use sqlx::PgPool;

use super::answer::Answer;
use super::bug::{Bug, Planted};
use super::rows;
use super::time::{from_rfc3339, rfc3339};

/// The balance at a moment, under a lock: whatever happens to the user later is stamped later.
pub(super) async fn balance_at(
    pool: &PgPool,
    id: i64,
    at: &str,
    planted: &Planted,
) -> Result<Answer, sqlx::Error> {
    let Some(moment) = from_rfc3339(at) else {
        return Ok(Answer::error(400, "at must be a time as in RFC 3339"));
    };
    let mut transaction = pool.begin().await?;
    // The journal as it is now is taken for final, although an entry that is stamped earlier may be
    // about to be committed.
    let is_final = !planted.has(Bug::MomentNotFinal);
    let (users, changed_at) = if is_final {
        rows::lock(&mut transaction, vec![id]).await?
    } else {
        (Default::default(), i64::MIN)
    };
    if is_final && users.is_empty() {
        return Ok(Answer::no_user());
    }
    let latest = rows::now(&mut transaction).await?.max(changed_at);
    if moment > latest {
        let sentence = format!("at must not be later than now, which is {}", rfc3339(latest));
        return Ok(Answer::error(400, &sentence));
    }
    if is_final && moment >= changed_at {
        sqlx::query(
            "UPDATE users SET changed_at = 'epoch'::timestamptz + $2 * interval '1 microsecond' \
             WHERE id = $1",
        )
        .bind(id)
        .bind(moment + 1)
        .execute(&mut *transaction)
        .await?;
    }
    let found: Option<(i64, i64, i64)> = sqlx::query_as(
        "SELECT balance, held, version FROM balance_changes WHERE user_id = $1 \
             AND created_at <= 'epoch'::timestamptz + $2 * interval '1 microsecond' \
         ORDER BY version DESC LIMIT 1",
    )
    .bind(id)
    .bind(moment)
    .fetch_optional(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(then(found.unwrap_or_default(), moment))
}

pub(super) async fn balance_after(
    pool: &PgPool,
    id: i64,
    version: i64,
) -> Result<Answer, sqlx::Error> {
    let found: Option<(i64, Option<i64>, Option<i64>, i64)> = sqlx::query_as(
        "SELECT u.version, c.balance, c.held, \
             (extract(epoch FROM coalesce(c.created_at, u.created_at)) * 1000000)::bigint \
         FROM users u LEFT JOIN balance_changes c ON c.user_id = u.id AND c.version = $2 \
         WHERE u.id = $1",
    )
    .bind(id)
    .bind(version)
    .fetch_optional(pool)
    .await?;
    let Some((latest, balance, held, at)) = found else { return Ok(Answer::no_user()) };
    if version > latest {
        let sentence = format!("version must not be more than the user's, which is {latest}");
        return Ok(Answer::error(400, &sentence));
    }
    Ok(then((balance.unwrap_or(0), held.unwrap_or(0), version), at))
}

fn then((balance, held, version): (i64, i64, i64), at: i64) -> Answer {
    let then = json!({ "balance": balance, "held": held, "version": version, "at": rfc3339(at) });
    Answer::new(200, then)
}
