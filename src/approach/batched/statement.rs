//! The statement that applies a batch: balances, journal rows and keys of all its users.
//!
//! It has two forms: a fast one without texts, and one with keys or references. In the arrays each
//! user's rows are adjacent, and each user has the numbers of its first and last row. So a row is found
//! by its number, and the cost grows with the number of rows and not with rows times users. Numbers all
//! have the same size, so an element of their array is found at once. In an array of texts PostgreSQL
//! walks over all elements before the wanted one. So the texts of the rows are one string of bytes,
//! with the position and the lengths of each row's texts.

use std::time::Duration;

use sqlx::PgConnection;

use super::fold::{Guard, Plan, Planned};
use crate::ledger::{Balance, Change, Funds, Key, Reference, UserId};
use crate::store::keys::Stored;
use crate::store::session::set_lock_wait;

/// One user's part of the batch.
pub(super) struct Part<'a> {
    pub(super) user: UserId,
    pub(super) plan: &'a Plan,
    /// As many as the plan has.
    pub(super) changes: Vec<&'a Change>,
}

impl<'a> Part<'a> {
    /// Every key of the part, once. Keys of changes that are not written are included: a key that was
    /// used before is replayed, however its change would be decided now.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a Key> {
        let originals =
            self.plan.changes.iter().zip(&self.changes).filter(|(planned, _)| {
                !matches!(planned, Planned::Copy { .. } | Planned::KeyReused)
            });
        originals.filter_map(|(_, change)| change.key.as_ref())
    }
}

/// The reply about one user or one key.
#[derive(Debug)]
pub(super) enum Reply {
    /// The plan was carried out on this balance.
    Applied { user: i64, before: Balance },
    /// The user in the statement's snapshot, and whether a hold that is still open has expired. If any user was not applied, one comes for each user of
    /// the batch; ignore it for users that were applied. A user with neither reply does not exist.
    Unchanged { user: i64, funds: Funds, version: i64, has_expired: bool },
    /// The key was used before, so *nothing* of the batch was applied.
    Replayed { user: i64, key: String, stored: Stored },
}

const WITHOUT_TEXTS: &str = r"
WITH applied AS (
    UPDATE users u
    SET balance = u.balance + b.net, version = u.version + b.count,
        changed_at = greatest(statement_timestamp(), u.changed_at)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::bigint[], $8::bigint[])
         AS b(id, net, count, least, most, version, first, last)
    WHERE u.id = b.id AND u.balance >= b.least AND u.balance + u.held <= b.most
      AND (b.version < 0 OR u.version = b.version)
    RETURNING u.id, u.balance - b.net AS before, u.held, u.version - b.count AS version,
              u.changed_at, b.first, b.last
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at)
    SELECT a.id, a.version + 1 + n - a.first, 'change', ($9::bigint[])[n], 0,
           a.before + ($10::bigint[])[n], a.held, a.changed_at
    FROM applied a, generate_series(a.first, a.last) AS n
)
SELECT 'applied', id, before, NULL::bigint, NULL::bigint, NULL::boolean,
       NULL::text, NULL::text, NULL::bigint[]
FROM applied
UNION ALL
SELECT 'unchanged', u.id, u.balance, u.held, u.version, u.held > 0 AND EXISTS (
           SELECT FROM holds h WHERE h.user_id = u.id AND h.state = 'open'
           AND h.expires_at <= greatest(statement_timestamp(), u.changed_at)),
       NULL, NULL, NULL
FROM users u
WHERE u.id = ANY ($1) AND (SELECT count(*) FROM applied) < cardinality($1)";

const WITH_TEXTS: &str = r"
WITH stored AS MATERIALIZED (
    SELECT k.user_id, k.key, k.fingerprint, k.answer
    FROM unnest($17::bigint[], $18::text[]) AS q(user_id, key)
    JOIN idempotency_keys k ON k.user_id = q.user_id AND k.key = q.key
), applied AS (
    UPDATE users u
    SET balance = u.balance + b.net, version = u.version + b.count,
        changed_at = greatest(statement_timestamp(), u.changed_at)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::bigint[], $8::bigint[])
         AS b(id, net, count, least, most, version, first, last)
    WHERE u.id = b.id AND u.balance >= b.least AND u.balance + u.held <= b.most
      AND (b.version < 0 OR u.version = b.version)
      AND NOT EXISTS (SELECT FROM stored)
    RETURNING u.id, u.balance - b.net AS before, u.held, u.version - b.count AS version,
              u.changed_at, b.first, b.last
), decided AS MATERIALIZED (
    SELECT a.id, a.version + ($11::bigint[])[n] AS version,
           ($11::bigint[])[n] > 0 AS journaled, ($11::bigint[])[n] <> 0 AS accepted,
           ($9::bigint[])[n] AS amount, a.before + ($10::bigint[])[n] AS balance,
           a.held, a.changed_at,
           CASE WHEN t.key > 0
               THEN convert_from(substr($16, t.start, t.key), 'UTF8') END AS key,
           CASE WHEN t.key > 0
               THEN convert_from(substr($16, t.start + t.key, t.fingerprint), 'UTF8')
               END AS fingerprint,
           CASE WHEN t.reference > 0
               THEN convert_from(substr($16, t.start + t.key + t.fingerprint, t.reference), 'UTF8')
               END AS reference
    FROM applied a, generate_series(a.first, a.last) AS n,
         LATERAL (SELECT ($12::int[])[n], ($13::int[])[n], ($14::int[])[n], ($15::int[])[n])
             AS t(start, key, fingerprint, reference)
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at, key, reference)
    SELECT id, version, 'change', amount, 0, balance, held, changed_at, key, reference
    FROM decided WHERE journaled
), keyed AS (
    INSERT INTO idempotency_keys (user_id, key, fingerprint, answer)
    SELECT id, key, fingerprint, CASE WHEN accepted THEN ARRAY[balance] END
    FROM decided WHERE key IS NOT NULL
    RETURNING user_id
)
SELECT 'applied', id, before, NULL::bigint, NULL::bigint, NULL::boolean,
       NULL::text, NULL::text, NULL::bigint[]
FROM applied
UNION ALL
SELECT 'unchanged', u.id, u.balance, u.held, u.version, u.held > 0 AND EXISTS (
           SELECT FROM holds h WHERE h.user_id = u.id AND h.state = 'open'
           AND h.expires_at <= greatest(statement_timestamp(), u.changed_at)),
       NULL, NULL, NULL
FROM users u
WHERE u.id = ANY ($1) AND (SELECT count(*) FROM applied) < cardinality($1)
UNION ALL
SELECT 'replayed', user_id, NULL, NULL, NULL, NULL, key, fingerprint, answer
FROM stored";

/// The bound arrays. Those per user are as long as `ids`, those per row as long as `amounts`.
#[derive(Default)]
struct Arrays<'a> {
    ids: Vec<i64>,
    nets: Vec<i64>,
    counts: Vec<i64>,
    leasts: Vec<i64>,
    mosts: Vec<i64>,
    versions: Vec<i64>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    amounts: Vec<i64>,
    runnings: Vec<i64>,
    /// The number of the change among the user's journaled ones, from 1; 0 for a refusal and
    /// [`READ`] for a change of zero, which are only stored with their keys.
    ordinals: Vec<i64>,
    /// None where no change has any, which is the fast form.
    texts: Option<Texts<'a>>,
}

/// The keys to look up, and the texts of the rows: key, fingerprint and reference of each row are
/// adjacent.
#[derive(Default)]
struct Texts<'a> {
    key_users: Vec<i64>,
    key_texts: Vec<&'a str>,
    bytes: Vec<u8>,
    /// The position of a row's texts in `bytes`, counted from 1, and the length of each text in bytes; 0
    /// for none.
    starts: Vec<i32>,
    keys: Vec<i32>,
    fingerprints: Vec<i32>,
    references: Vec<i32>,
}

/// Any version, for a plan with another guard.
const ANY: i64 = -1;

/// The ordinal of a change of zero: accepted, but not journaled.
const READ: i64 = -1;

impl<'a> Arrays<'a> {
    fn of(parts: &'a [Part<'a>]) -> Self {
        let has_text = |change: &&Change| change.key.is_some() || change.reference.is_some();
        let has_texts = parts.iter().flat_map(|part| &part.changes).any(has_text);
        let mut arrays = Self { texts: has_texts.then(Texts::default), ..Self::default() };
        for part in parts {
            arrays.push(part);
        }
        // The fast form derives versions from row numbers, so each of its rows is a journaled change.
        debug_assert!(arrays.texts.is_some() || arrays.ordinals.iter().all(|n| *n > 0));
        arrays
    }

    fn push(&mut self, part: &'a Part<'a>) {
        let (least, most, version) = match part.plan.guard {
            Guard::Range { least, most } => (least, most, ANY),
            Guard::Version(version) => (0, i64::MAX, version),
        };
        self.ids.push(part.user.get());
        self.nets.push(part.plan.net);
        self.counts.push(part.plan.count);
        self.leasts.push(least);
        self.mosts.push(most);
        self.versions.push(version);
        self.firsts.push(number(self.amounts.len() + 1));
        let mut ordinal = 0;
        for (planned, change) in part.plan.changes.iter().zip(&part.changes) {
            match planned {
                Planned::Accepted { running } => {
                    ordinal += 1;
                    self.push_row(change, *running, ordinal);
                }
                Planned::Read { running } if change.key.is_some() => {
                    self.push_row(change, *running, READ);
                }
                Planned::Refused if change.key.is_some() => self.push_row(change, 0, 0),
                Planned::Read { .. }
                | Planned::Refused
                | Planned::Copy { .. }
                | Planned::KeyReused
                | Planned::OutOfRange => {}
            }
        }
        self.lasts.push(number(self.amounts.len()));
        if let Some(texts) = &mut self.texts {
            for key in part.keys() {
                texts.key_users.push(part.user.get());
                texts.key_texts.push(key.as_str());
            }
        }
    }

    fn push_row(&mut self, change: &Change, running: i64, ordinal: i64) {
        self.amounts.push(change.amount.get());
        self.runnings.push(running);
        self.ordinals.push(ordinal);
        if let Some(texts) = &mut self.texts {
            texts.push(change);
        }
    }
}

impl Texts<'_> {
    fn push(&mut self, change: &Change) {
        self.starts.push(number(self.bytes.len() + 1));
        let key = change.key.as_ref().map_or("", Key::as_str);
        let fingerprint = change.key.as_ref().map(|_| change.fingerprint());
        let fingerprint = fingerprint.as_ref().map_or("", |fingerprint| fingerprint.as_str());
        let reference = change.reference.as_ref().map_or("", Reference::as_str);
        for (text, lengths) in [
            (key, &mut self.keys),
            (fingerprint, &mut self.fingerprints),
            (reference, &mut self.references),
        ] {
            self.bytes.extend_from_slice(text.as_bytes());
            lengths.push(number(text.len()));
        }
    }
}

/// An index or a length as a `bigint` or an `int`.
fn number<T: TryFrom<usize>>(index: usize) -> T {
    T::try_from(index).ok().expect("a batch is bounded far below that")
}

/// A row of the result: the kind of reply, the user, and columns that depend on the kind.
type Row = (
    String,
    i64,
    Option<Balance>,
    Option<Balance>,
    Option<i64>,
    Option<bool>,
    Option<String>,
    Option<String>,
    Option<Vec<i64>>,
);

/// Sends the parts, which are ordered by user. Commits by itself, unless inside a transaction.
///
/// # Errors
/// As the database says. Nothing was applied, unless the connection was lost.
pub(super) async fn send(
    connection: &mut PgConnection,
    parts: &[Part<'_>],
) -> Result<Vec<Reply>, sqlx::Error> {
    let arrays = Arrays::of(parts);
    let sql = if arrays.texts.is_some() { WITH_TEXTS } else { WITHOUT_TEXTS };
    let query = sqlx::query_as::<_, Row>(sql)
        .bind(arrays.ids)
        .bind(arrays.nets)
        .bind(arrays.counts)
        .bind(arrays.leasts)
        .bind(arrays.mosts)
        .bind(arrays.versions)
        .bind(arrays.firsts)
        .bind(arrays.lasts)
        .bind(arrays.amounts)
        .bind(arrays.runnings);
    let query = match arrays.texts {
        None => query,
        Some(texts) => query
            .bind(arrays.ordinals)
            .bind(texts.starts)
            .bind(texts.keys)
            .bind(texts.fingerprints)
            .bind(texts.references)
            .bind(texts.bytes)
            .bind(texts.key_users)
            .bind(texts.key_texts),
    };
    let rows = query.fetch_all(connection).await?;
    rows.into_iter().map(reply).collect()
}

fn reply(row: Row) -> Result<Reply, sqlx::Error> {
    match row {
        (kind, user, Some(before), ..) if kind == "applied" => Ok(Reply::Applied { user, before }),
        (kind, user, Some(balance), Some(held), Some(version), Some(has_expired), ..)
            if kind == "unchanged" =>
        {
            Ok(Reply::Unchanged { user, funds: Funds { balance, held }, version, has_expired })
        }
        (kind, user, _, _, _, _, Some(key), Some(fingerprint), answer) if kind == "replayed" => {
            Ok(Reply::Replayed { user, key, stored: Stored::from_columns(fingerprint, answer) })
        }
        _ => Err(sqlx::Error::Protocol("an unexpected row came back for a batch".into())),
    }
}

/// Locks one user until the transaction ends, and reads funds and version. Waits for the row for at
/// most `wait`, which is longer than a batch waits.
pub(super) async fn lock(
    connection: &mut PgConnection,
    user: UserId,
    wait: Duration,
) -> Result<Option<(Funds, i64)>, sqlx::Error> {
    set_lock_wait(connection, wait).await?;
    let row: Option<(Balance, Balance, i64)> =
        sqlx::query_as("SELECT balance, held, version FROM users WHERE id = $1 FOR UPDATE")
            .bind(user.get())
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(balance, held, version)| (Funds { balance, held }, version)))
}

/// Whether a hold of the locked user has expired that is still open. Nobody else can resolve a hold
/// while the row is locked.
pub(super) async fn has_expired_holds(
    connection: &mut PgConnection,
    user: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        r"
SELECT u.held > 0 AND EXISTS (
    SELECT FROM holds h WHERE h.user_id = $1 AND h.state = 'open'
    AND h.expires_at <= greatest(statement_timestamp(), u.changed_at))
FROM users u WHERE u.id = $1",
    )
    .bind(user.get())
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::super::fold;
    use super::*;
    use crate::ledger::Amount;

    fn change(amount: i64, key: Option<&str>) -> Change {
        let (user, amount) = (UserId::FIRST, Amount::new(amount).unwrap());
        Change { user, amount, key: key.map(|key| Key::new(key).unwrap()), reference: None }
    }

    #[test]
    fn every_key_is_looked_up_once_even_if_no_balance_could_take_the_changes() {
        let changes = [
            change(i64::MAX, Some("a")),
            change(i64::MAX, Some("b")),
            change(1, None),
            change(i64::MAX, Some("a")),
        ];
        assert_eq!(fold::whole(changes.iter()), None);
        let funds = Funds { balance: 0, held: 0 };
        for plan in [Plan::reading(changes.len()), fold::each(funds, 1, changes.iter())] {
            let part = Part { user: UserId::FIRST, plan: &plan, changes: changes.iter().collect() };
            let mut keys: Vec<_> = part.keys().map(Key::as_str).collect();
            keys.dedup();
            assert!(keys.starts_with(&["a", "b"]), "{keys:?}");
            assert!(!Arrays::of(&[part]).texts.unwrap().key_texts.is_empty());
        }
    }

    #[test]
    fn the_texts_of_the_rows_are_found_by_position_and_length() {
        let mut changes = [change(1, Some("one")), change(2, None), change(3, Some("three"))];
        changes[1].reference = Reference::new("März");
        changes[2].reference = Reference::new("ref");
        let plan = fold::whole(changes.iter()).unwrap();
        let parts = [Part { user: UserId::FIRST, plan: &plan, changes: changes.iter().collect() }];
        let texts = Arrays::of(&parts).texts.unwrap();
        let Texts { bytes, starts, keys, fingerprints, references, .. } = texts;
        let found: Vec<_> = (0..changes.len())
            .map(|row| {
                let mut at = usize::try_from(starts[row]).unwrap() - 1;
                [&keys, &fingerprints, &references].map(|lengths| {
                    let from = at;
                    at += usize::try_from(lengths[row]).unwrap();
                    str::from_utf8(&bytes[from..at]).unwrap()
                })
            })
            .collect();
        let expected =
            [["one", "change 1", ""], ["", "", "März"], ["three", "change 3 ref", "ref"]];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_change_of_zero_has_a_row_only_with_a_key_and_no_version() {
        let changes = [change(0, None), change(-1, None), change(0, Some("k")), change(-1, None)];
        let funds = Funds { balance: 1, held: 0 };
        let plan = fold::each(funds, 1, changes.iter());
        let parts = [Part { user: UserId::FIRST, plan: &plan, changes: changes.iter().collect() }];
        let arrays = Arrays::of(&parts);
        assert_eq!(arrays.ordinals, [1, READ]);
        assert_eq!((arrays.amounts, arrays.runnings), (vec![-1, 0], vec![-1, -1]));
        assert_eq!(arrays.counts, [1]);
    }

    #[test]
    fn a_reference_alone_selects_the_form_with_texts() {
        let mut changes = [change(1, None)];
        let plan = fold::whole(changes.iter()).unwrap();
        let has_texts = |changes: &[Change]| {
            let changes = changes.iter().collect();
            Arrays::of(&[Part { user: UserId::FIRST, plan: &plan, changes }]).texts.is_some()
        };
        assert!(!has_texts(&changes));
        changes[0].reference = Reference::new("rent");
        assert!(has_texts(&changes));
    }

    /// An element of an array of texts costs a walk over all elements before it.
    #[test]
    fn no_text_is_found_by_its_number() {
        for sql in [WITHOUT_TEXTS, WITH_TEXTS] {
            assert!(!sql.contains("text[])["), "{sql}");
        }
    }
}
