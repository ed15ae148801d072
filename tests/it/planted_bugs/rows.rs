//! The statements of a transaction.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

use super::answer::Answer;
use super::books::{Books, Entry, Hold, User};
use super::store::{Keys, Used};

/// What this service needs beyond Plimsoll's own schema: the answer of a key as it was sent.
pub(super) const COLUMNS: &str = "\
    ALTER TABLE idempotency_keys ADD COLUMN status integer, ADD COLUMN body text;";

/// Locks the users that exist, in order of id. Returns also the latest moment that any of them has an
/// entry of.
pub(super) async fn lock(
    connection: &mut PgConnection,
    users: Vec<i64>,
) -> Result<(BTreeMap<i64, User>, i64), sqlx::Error> {
    let rows: Vec<(i64, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT id, balance, held, version, (extract(epoch FROM changed_at) * 1000000)::bigint \
         FROM users WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
    )
    .bind(users)
    .fetch_all(connection)
    .await?;
    let changed_at = rows.iter().map(|(.., changed_at)| *changed_at).max().unwrap_or(i64::MIN);
    let users = rows
        .into_iter()
        .map(|(id, balance, held, version, _)| (id, User { balance, held, version }))
        .collect();
    Ok((users, changed_at))
}

/// The database's clock.
pub(super) async fn now(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint")
        .fetch_one(connection)
        .await
}

/// The holds that are named, and the users' open ones that have expired.
pub(super) async fn holds(
    connection: &mut PgConnection,
    users: &[i64],
    named: &[(i64, i64)],
    stamp: i64,
) -> Result<BTreeMap<(i64, i64), Hold>, sqlx::Error> {
    let (owners, numbers): (Vec<i64>, Vec<i64>) = named.iter().copied().unzip();
    let rows: Vec<(i64, i64, i64, i64, String, i64)> = sqlx::query_as(
        "SELECT user_id, hold, amount, captured, state::text, \
             (extract(epoch FROM expires_at) * 1000000)::bigint \
         FROM holds WHERE user_id = ANY ($1) AND state = 'open' \
             AND expires_at <= 'epoch'::timestamptz + $2 * interval '1 microsecond' \
         UNION \
         SELECT user_id, hold, amount, captured, state::text, \
             (extract(epoch FROM expires_at) * 1000000)::bigint \
         FROM holds JOIN unnest($3::bigint[], $4::bigint[]) AS named (owner, number) \
             ON user_id = owner AND hold = number",
    )
    .bind(users)
    .bind(stamp)
    .bind(owners)
    .bind(numbers)
    .fetch_all(connection)
    .await?;
    let holds = rows.into_iter().map(|(user, number, amount, captured, state, expires_at)| {
        ((user, number), Hold { amount, captured, state, expires_at })
    });
    Ok(holds.collect())
}

pub(super) async fn keys(
    connection: &mut PgConnection,
    places: &[(i64, String)],
) -> Result<Keys, sqlx::Error> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let (users, keys): (Vec<i64>, Vec<String>) = places.iter().cloned().unzip();
    let rows: Vec<(i64, String, String, i32, String)> = sqlx::query_as(
        "SELECT user_id, k.key, fingerprint, status, body \
         FROM idempotency_keys k JOIN unnest($1::bigint[], $2::text[]) AS named (owner, key) \
             ON user_id = owner AND k.key = named.key",
    )
    .bind(users)
    .bind(keys)
    .fetch_all(connection)
    .await?;
    let used = rows.into_iter().map(|(user, key, fingerprint, status, body)| {
        let answer = Answer { status: status.try_into().unwrap(), body };
        ((user, key), Used { fingerprint, answer })
    });
    Ok(used.collect())
}

/// Writes the balances of these users, their new entries, and the holds that were made or resolved.
pub(super) async fn write_books(
    connection: &mut PgConnection,
    books: &Books,
    of: impl Fn(i64) -> bool,
) -> Result<(), sqlx::Error> {
    let entries: Vec<&Entry> = books.entries.iter().filter(|entry| of(entry.user)).collect();
    let holds: Vec<_> = books.changed_holds.iter().filter(|(user, _)| of(*user)).collect();
    if !entries.is_empty() {
        write_entries(connection, books.stamp, &entries).await?;
    }
    if !holds.is_empty() {
        let holds: Vec<_> = holds.iter().map(|place| (**place, &books.holds[*place])).collect();
        write_holds(connection, books.stamp, &holds).await?;
    }
    Ok(())
}

/// The last entry of a user has what the user's row becomes.
async fn write_entries(
    connection: &mut PgConnection,
    stamp: i64,
    entries: &[&Entry],
) -> Result<(), sqlx::Error> {
    let numbers = |of: fn(&Entry) -> i64| entries.iter().map(|e| of(e)).collect::<Vec<i64>>();
    let some = |of: fn(&Entry) -> Option<i64>| entries.iter().map(|e| of(e)).collect::<Vec<_>>();
    sqlx::query(
        "WITH new AS MATERIALIZED ( \
             SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], \
                 $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], \
                 $11::bigint[], $12::bigint[], $13::bigint[]) \
             AS new (user_id, version, kind, amount, held_amount, balance, held, key, reference, \
                 hold, peer_user, peer_version) \
         ), last AS ( \
             SELECT DISTINCT ON (user_id) * FROM new ORDER BY user_id, version DESC \
         ), updated AS ( \
             UPDATE users SET balance = last.balance, held = last.held, version = last.version, \
                 changed_at = 'epoch'::timestamptz + $1 * interval '1 microsecond' \
             FROM last WHERE id = last.user_id \
         ) \
         INSERT INTO balance_changes (user_id, version, kind, amount, held_amount, balance, held, \
             created_at, key, reference, hold, peer_user, peer_version) \
         SELECT user_id, version, kind::change_kind, amount, held_amount, balance, held, \
             'epoch'::timestamptz + $1 * interval '1 microsecond', key, reference, hold, \
             peer_user, peer_version \
         FROM new",
    )
    .bind(stamp)
    .bind(numbers(|entry| entry.user))
    .bind(numbers(|entry| entry.version))
    .bind(entries.iter().map(|entry| entry.kind).collect::<Vec<_>>())
    .bind(numbers(|entry| entry.amount))
    .bind(numbers(|entry| entry.held_amount))
    .bind(numbers(|entry| entry.balance))
    .bind(numbers(|entry| entry.held))
    .bind(entries.iter().map(|entry| entry.key.as_deref()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.reference.as_deref()).collect::<Vec<_>>())
    .bind(some(|entry| entry.hold))
    .bind(some(|entry| entry.peer.map(|(user, _)| user)))
    .bind(some(|entry| entry.peer.map(|(_, version)| version)))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_holds(
    connection: &mut PgConnection,
    stamp: i64,
    holds: &[((i64, i64), &Hold)],
) -> Result<(), sqlx::Error> {
    for ((user, number), Hold { amount, captured, state, expires_at }) in holds {
        sqlx::query(
            "INSERT INTO holds (user_id, hold, amount, captured, state, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5::text::hold_state, \
                 'epoch'::timestamptz + $6 * interval '1 microsecond', \
                 'epoch'::timestamptz + $7 * interval '1 microsecond') \
             ON CONFLICT (user_id, hold) DO UPDATE SET state = excluded.state, \
                 captured = excluded.captured, resolved_at = excluded.created_at",
        )
        .bind(user)
        .bind(number)
        .bind(amount)
        .bind(captured)
        .bind(state)
        .bind(stamp)
        .bind(expires_at)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn write_keys(
    connection: &mut PgConnection,
    keys: &[((i64, String), Used)],
) -> Result<(), sqlx::Error> {
    for ((user, key), Used { fingerprint, answer }) in keys {
        sqlx::query(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, status, body) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(user)
        .bind(key)
        .bind(fingerprint)
        .bind(i32::from(answer.status))
        .bind(&answer.body)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
