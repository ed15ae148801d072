//! The requests that change nothing, and the creation of users.

use serde_json::{Map, Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::answer::Answer;
use super::books::User;
use super::bug::Bug;
use super::moments;
use super::query::Query;
use super::store::Store;
use super::time::rfc3339;

type Read = Result<Answer, sqlx::Error>;

/// The answer to a `GET` of this path.
pub(super) async fn get(store: &Store, path: &[&str], query: &Query) -> Answer {
    let Store { pool, planted, .. } = store;
    let id = path.get(1).and_then(|user| user.parse().ok()).unwrap_or(0);
    let answer = match *path {
        ["users", _] => user(store, id).await,
        ["users", _, "changes"] => changes(pool, id, query).await,
        ["users", _, "holds"] => holds(pool, id, query).await,
        ["users", _, "holds", hold] => one_hold(pool, id, hold.parse().unwrap_or(0)).await,
        ["users", _, "balance"] => match (query.text("at"), query.number("version")) {
            (Some(at), None) => moments::balance_at(pool, id, at, planted).await,
            (None, Some(version)) => moments::balance_after(pool, id, version).await,
            _ => Ok(Answer::error(400, "Either at or version is required, and not both")),
        },
        ["healthz" | "readyz"] => Ok(Answer::new(200, json!({ "status": "ok" }))),
        _ => Ok(Answer::error(404, "Not found")),
    };
    answer.unwrap_or_else(|_| Answer::not_applied())
}

/// Creates a user with an opening balance.
pub(super) async fn create_user(pool: &PgPool, body: &Value) -> Answer {
    let balance = body["balance"].as_i64().unwrap_or(0);
    let created: Result<i64, _> = sqlx::query_scalar(
        "WITH created AS ( \
             INSERT INTO users (balance, held, version, changed_at) \
             VALUES ($1, 0, CASE WHEN $1 > 0 THEN 1 ELSE 0 END, statement_timestamp()) \
             RETURNING id, changed_at \
         ), entered AS ( \
             INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, \
                 held, created_at) \
             SELECT id, 1, 'change', $1, 0, $1, 0, changed_at FROM created WHERE $1 > 0 \
         ) SELECT id FROM created",
    )
    .bind(balance)
    .fetch_one(pool)
    .await;
    match created {
        Ok(id) => Answer::new(201, json!({ "id": id, "balance": balance })),
        Err(_) => Answer::unknown(),
    }
}

async fn user(store: &Store, id: i64) -> Read {
    let Store { pool, planted, .. } = store;
    let mut found: Option<(i64, i64, i64)> =
        sqlx::query_as("SELECT balance, held, version FROM users WHERE id = $1")
            .bind(id)
            .fetch_optional(pool)
            .await?;
    // Some reads go to a replica, which is a little behind.
    if planted.strikes(Bug::StaleRead, 10) {
        let behind = sqlx::query_as(
            "SELECT balance, held, version FROM balance_changes \
             WHERE user_id = $1 AND created_at < now() - interval '200 ms' \
             ORDER BY version DESC LIMIT 1",
        );
        found = behind.bind(id).fetch_optional(pool).await?.or(found);
    }
    // A cache of what was written a moment ago, to spare the database.
    if planted.has(Bug::DirtyRead)
        && let Some(User { balance, held, version }) = store.cached(id)
    {
        found = Some((balance, held, version));
    }
    Ok(found.map_or_else(Answer::no_user, |(balance, held, version)| {
        let user = json!({ "id": id, "balance": balance, "held": held, "version": version });
        Answer::new(200, user)
    }))
}

async fn changes(pool: &PgPool, id: i64, query: &Query) -> Read {
    let rows = sqlx::query(
        "SELECT c.version, c.kind::text, c.amount, c.held_amount, c.balance, c.held, \
             (extract(epoch FROM c.created_at) * 1000000)::bigint AS created_at, \
             c.key, c.reference, c.hold, c.peer_user, c.peer_version \
         FROM users u LEFT JOIN balance_changes c ON c.user_id = u.id AND c.version < $2 \
         WHERE u.id = $1 ORDER BY c.version DESC LIMIT $3",
    )
    .bind(id)
    .bind(query.before())
    .bind(query.limit())
    .fetch_all(pool)
    .await?;
    if rows.is_empty() {
        return Ok(Answer::no_user());
    }
    let changes = rows.iter().filter_map(|row| entry(row).transpose());
    let changes: Vec<Value> = changes.collect::<Result<_, _>>()?;
    // Versions have no gap, so there is another page unless the first entry was on this one.
    let last = changes.last().and_then(|entry| entry["version"].as_i64());
    Ok(Answer::new(200, json!({ "changes": changes, "next": last.filter(|last| *last > 1) })))
}

/// `None` where the user has no entry.
fn entry(row: &PgRow) -> Result<Option<Value>, sqlx::Error> {
    let Some(version) = row.try_get::<Option<i64>, _>("version")? else { return Ok(None) };
    let mut entry = json!({
        "version": version,
        "kind": row.try_get::<String, _>("kind")?,
        "amount": row.try_get::<i64, _>("amount")?,
        "heldAmount": row.try_get::<i64, _>("held_amount")?,
        "balance": row.try_get::<i64, _>("balance")?,
        "held": row.try_get::<i64, _>("held")?,
        "createdAt": rfc3339(row.try_get("created_at")?),
    });
    let members = entry.as_object_mut().expect("an object");
    set(members, "reference", row.try_get::<Option<String>, _>("reference")?);
    set(members, "key", row.try_get::<Option<String>, _>("key")?);
    set(members, "hold", row.try_get::<Option<i64>, _>("hold")?);
    let peer: (Option<i64>, Option<i64>) =
        (row.try_get("peer_user")?, row.try_get("peer_version")?);
    if let (Some(user), Some(version)) = peer {
        members.insert("peer".to_owned(), json!({ "user": user, "version": version }));
    }
    Ok(Some(entry))
}

/// The holds of `$1` with numbers below `$2`, newest first, and the user of the same moment.
const HOLDS: &str = "\
    SELECT u.balance, u.held, u.version, h.hold, h.amount, h.captured, h.state::text, \
        (extract(epoch FROM h.created_at) * 1000000)::bigint AS created_at, \
        (extract(epoch FROM h.expires_at) * 1000000)::bigint AS expires_at, \
        (extract(epoch FROM h.resolved_at) * 1000000)::bigint AS resolved_at, c.reference \
    FROM users u \
    LEFT JOIN holds h ON h.user_id = u.id AND h.hold < $2 \
        AND ($4::text IS NULL OR h.state::text = $4) \
    LEFT JOIN balance_changes c ON c.user_id = h.user_id AND c.version = h.hold \
    WHERE u.id = $1 ORDER BY h.hold DESC LIMIT $3";

async fn holds(pool: &PgPool, id: i64, query: &Query) -> Read {
    let rows = sqlx::query(HOLDS)
        .bind(id)
        .bind(query.before())
        .bind(query.limit())
        .bind(query.text("state"))
        .fetch_all(pool)
        .await?;
    let Some(first) = rows.first() else { return Ok(Answer::no_user()) };
    let holds = rows.iter().filter_map(|row| hold(row).transpose());
    let holds: Vec<Value> = holds.collect::<Result<_, _>>()?;
    let is_full = i64::try_from(holds.len()).unwrap() == query.limit();
    let next = holds.last().filter(|_| is_full).map(|last| last["hold"].clone());
    Ok(Answer::new(
        200,
        json!({
            "balance": first.try_get::<i64, _>("balance")?,
            "held": first.try_get::<i64, _>("held")?,
            "version": first.try_get::<i64, _>("version")?,
            "holds": holds,
            "next": next,
        }),
    ))
}

async fn one_hold(pool: &PgPool, id: i64, number: i64) -> Read {
    let row = sqlx::query(HOLDS)
        .bind(id)
        .bind(number.saturating_add(1))
        .bind(1_i64)
        .bind(None::<String>)
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(Answer::no_user()) };
    let found = hold(&row)?.filter(|hold| hold["hold"] == number);
    Ok(found.map_or_else(|| Answer::error(404, "Hold not found"), |hold| Answer::new(200, hold)))
}

/// `None` where the user has no hold.
fn hold(row: &PgRow) -> Result<Option<Value>, sqlx::Error> {
    let Some(number) = row.try_get::<Option<i64>, _>("hold")? else { return Ok(None) };
    let mut hold = json!({
        "hold": number,
        "amount": row.try_get::<i64, _>("amount")?,
        "captured": row.try_get::<i64, _>("captured")?,
        "state": row.try_get::<String, _>("state")?,
    });
    let members = hold.as_object_mut().expect("an object");
    set(members, "reference", row.try_get::<Option<String>, _>("reference")?);
    set(members, "createdAt", Some(rfc3339(row.try_get("created_at")?)));
    set(members, "expiresAt", Some(rfc3339(row.try_get("expires_at")?)));
    let resolved_at: Option<i64> = row.try_get("resolved_at")?;
    set(members, "resolvedAt", resolved_at.map(rfc3339));
    Ok(Some(hold))
}

fn set(members: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value.into());
    }
}
