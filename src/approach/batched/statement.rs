//! The one statement that carries a batch: balances, journal rows and keys of all its users.
//!
//! Two forms of it: without keys, which is the fast one, and with keys. The arrays are laid out so
//! that each user's rows stand together, and each user knows its first and last one; so a row is
//! found by its number, and the cost grows with the number of rows and not with rows times users.
//! That holds for numbers, which all have the same size. A text would be found by walking over all
//! before it, so the keys of the rows come as one string of bytes, with where each begins.

use std::time::Duration;

use sqlx::PgConnection;

use super::fold::{Guard, Plan, Verdict};
use crate::balance::{Balance, Change, Key, UserId};
use crate::store::keys::Prior;

/// One user's part of the batch.
pub(super) struct Part<'a> {
    pub(super) user: UserId,
    pub(super) plan: &'a Plan,
    /// As many as the plan has verdicts.
    pub(super) changes: Vec<&'a Change>,
}

impl<'a> Part<'a> {
    /// Every key of the part, once: those of changes that are not to be written as well, since one
    /// that was used before is replayed, whatever would become of its change now.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a Key> {
        let asked =
            self.plan.verdicts.iter().zip(&self.changes).filter(|(verdict, _)| {
                !matches!(verdict, Verdict::Copy { .. } | Verdict::KeyReused)
            });
        asked.filter_map(|(_, change)| change.key.as_ref())
    }
}

/// What the database says about one user, or about one key.
#[derive(Debug)]
pub(super) enum Reply {
    /// The plan was carried out on this balance.
    Moved { user: i64, before: Balance },
    /// How the user stood when the statement began. Comes for all users if any did not move, and
    /// counts for these only. A user of whom there is neither does not exist.
    Stood { user: i64, balance: Balance, version: i64 },
    /// The key was used before, so *nothing* of the batch was done.
    Used { user: i64, key: String, prior: Prior },
}

/// Session settings without which the planner might scan or hash where it should look up: rows must
/// be locked in the order of the arrays, which is by user. Planned once, but not where the tables
/// are sharded, which no generic plan can be made for.
pub(super) const SESSION: &str = "\
    SELECT set_config('plan_cache_mode', \
               CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') \
                   THEN 'auto' ELSE 'force_generic_plan' END, false), \
           set_config('enable_seqscan', 'off', false), \
           set_config('enable_bitmapscan', 'off', false), \
           set_config('enable_hashjoin', 'off', false), \
           set_config('enable_mergejoin', 'off', false), \
           set_config('jit', 'off', false)";

/// The guarded update of all users of the batch, under a further condition for all of them.
macro_rules! moved {
    ($condition:literal) => {
        concat!(
            "moved AS ( \
        UPDATE users u SET balance = u.balance + b.net, version = u.version + b.count \
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                    $6::bigint[], $7::bigint[], $8::bigint[]) \
             AS b(id, net, count, least, most, version, first, last) \
        WHERE u.id = b.id AND u.balance BETWEEN b.least AND b.most \
          AND (b.version < 0 OR u.version = b.version) ",
            $condition,
            "RETURNING u.id, u.balance - b.net AS before, u.version - b.count AS version, \
                  b.first, b.last \
    )"
        )
    };
}

/// Who moved; and how all stood, if any did not.
macro_rules! outcome {
    () => {
        "SELECT 'm', id, before, NULL::bigint, NULL::text FROM moved \
    UNION ALL \
    SELECT 's', id, balance, version, NULL FROM users \
    WHERE id = ANY ($1) AND (SELECT count(*) FROM moved) < cardinality($1)"
    };
}

const WITHOUT_KEYS: &str = concat!(
    "WITH ",
    moved!(""),
    ", journaled AS ( \
        INSERT INTO balance_changes (user_id, version, amount, balance) \
        SELECT m.id, m.version + 1 + n - m.first, ($9::bigint[])[n], m.before + ($10::bigint[])[n] \
        FROM moved m, generate_series(m.first, m.last) AS n \
    ) ",
    outcome!(),
);

const WITH_KEYS: &str = concat!(
    "WITH used AS MATERIALIZED ( \
        SELECT k.user_id, k.key, k.amount, k.balance \
        FROM unnest($15::bigint[], $16::text[]) AS q(user_id, key) \
        JOIN idempotency_keys k ON k.user_id = q.user_id AND k.key = q.key \
    ), ",
    moved!("AND NOT EXISTS (SELECT FROM used) "),
    ", decided AS MATERIALIZED ( \
        SELECT m.id, m.version + ($11::bigint[])[n] AS version, ($11::bigint[])[n] > 0 AS accepted, \
               ($9::bigint[])[n] AS amount, m.before + ($10::bigint[])[n] AS balance, \
               CASE WHEN ($13::bigint[])[n] > 0 \
                   THEN convert_from(substr($14::bytea, ($12::bigint[])[n]::int, \
                                            ($13::bigint[])[n]::int), 'UTF8') END AS key \
        FROM moved m, generate_series(m.first, m.last) AS n \
    ), journaled AS ( \
        INSERT INTO balance_changes (user_id, version, amount, balance, key) \
        SELECT id, version, amount, balance, key FROM decided WHERE accepted \
    ), kept AS ( \
        INSERT INTO idempotency_keys (user_id, key, amount, balance) \
        SELECT id, key, amount, CASE WHEN accepted THEN balance END \
        FROM decided WHERE key IS NOT NULL \
        RETURNING user_id \
    ) ",
    outcome!(),
    " UNION ALL \
    SELECT 'k', user_id, balance, amount, key FROM used",
);

/// The arrays that are bound. All per-user ones are as long as `ids`, all per-row ones as `amounts`.
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
    /// Counts a user's accepted changes from 1; 0 for a refusal that is kept with its key.
    ordinals: Vec<i64>,
    /// Where the key of a row begins in `key_bytes`, counted from 1, and how long it is; 0 for none.
    key_starts: Vec<i64>,
    key_lengths: Vec<i64>,
    key_bytes: Vec<u8>,
    /// The keys to look up.
    key_users: Vec<i64>,
    key_texts: Vec<&'a str>,
}

/// Any version, for a plan that does not ask.
const ANY: i64 = -1;

impl<'a> Arrays<'a> {
    fn of(parts: &'a [Part<'a>]) -> Self {
        let mut arrays = Self::default();
        for part in parts {
            arrays.push(part);
        }
        // The fast form finds a user's n-th change by its row, so there every row is a change.
        debug_assert!(!arrays.key_texts.is_empty() || arrays.ordinals.iter().all(|n| *n > 0));
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
        self.firsts.push(position(self.amounts.len() + 1));
        let mut ordinal = 0;
        for (verdict, change) in part.plan.verdicts.iter().zip(&part.changes) {
            match verdict {
                Verdict::Accepted { running } => {
                    ordinal += 1;
                    self.push_row(change, *running, ordinal);
                }
                Verdict::Refused if change.key.is_some() => self.push_row(change, 0, 0),
                Verdict::Refused
                | Verdict::Copy { .. }
                | Verdict::KeyReused
                | Verdict::OutOfRange => {}
            }
        }
        self.lasts.push(position(self.amounts.len()));
        for key in part.keys() {
            self.key_users.push(part.user.get());
            self.key_texts.push(key.as_str());
        }
    }

    fn push_row(&mut self, change: &'a Change, running: i64, ordinal: i64) {
        self.amounts.push(change.amount.get());
        self.runnings.push(running);
        self.ordinals.push(ordinal);
        let key = change.key.as_ref().map_or("", Key::as_str);
        self.key_starts.push(position(self.key_bytes.len() + 1));
        self.key_lengths.push(position(key.len()));
        self.key_bytes.extend_from_slice(key.as_bytes());
    }
}

/// PostgreSQL counts in bigint.
fn position(index: usize) -> i64 {
    i64::try_from(index).expect("a batch is bounded far below that")
}

/// A row of the answer: what it is, the user, and two numbers and a key that depend on it.
type Row = (String, i64, Option<i64>, Option<i64>, Option<String>);

/// Sends the parts, which are ordered by user. Autocommits, unless inside a transaction.
///
/// # Errors
/// As the database says; then nothing was done, unless the connection was lost.
pub(super) async fn send(
    connection: &mut PgConnection,
    parts: &[Part<'_>],
) -> Result<Vec<Reply>, sqlx::Error> {
    let arrays = Arrays::of(parts);
    let with_keys = !arrays.key_texts.is_empty();
    let query = sqlx::query_as::<_, Row>(if with_keys { WITH_KEYS } else { WITHOUT_KEYS })
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
    let query = if with_keys {
        query
            .bind(arrays.ordinals)
            .bind(arrays.key_starts)
            .bind(arrays.key_lengths)
            .bind(arrays.key_bytes)
            .bind(arrays.key_users)
            .bind(arrays.key_texts)
    } else {
        query
    };
    let rows = query.fetch_all(connection).await?;
    rows.into_iter().map(reply).collect()
}

fn reply(row: Row) -> Result<Reply, sqlx::Error> {
    let unexpected = || sqlx::Error::Protocol("an unexpected row came back for a batch".into());
    match row {
        (kind, user, Some(before), _, _) if kind == "m" => Ok(Reply::Moved { user, before }),
        (kind, user, Some(balance), Some(version), _) if kind == "s" => {
            Ok(Reply::Stood { user, balance, version })
        }
        (_, user, balance, Some(amount), Some(key)) => {
            let prior = Prior::from_columns(amount, balance).ok_or_else(unexpected)?;
            Ok(Reply::Used { user, key, prior })
        }
        _ => Err(unexpected()),
    }
}

/// Reads and locks one user until the transaction ends: balance and version. Waits for the row for
/// `wait` at most, where a batch would not wait for so long.
pub(super) async fn lock(
    connection: &mut PgConnection,
    user: UserId,
    wait: Duration,
) -> Result<Option<(Balance, i64)>, sqlx::Error> {
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(wait.as_millis().to_string())
        .execute(&mut *connection)
        .await?;
    sqlx::query_as("SELECT balance, version FROM users WHERE id = $1 FOR UPDATE")
        .bind(user.get())
        .fetch_optional(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approach::batched::fold;
    use crate::balance::{Amount, Key};

    fn change(amount: i64, key: Option<&str>) -> Change {
        let (user, amount) = (UserId::FIRST, Amount::new(amount).unwrap());
        Change { user, amount, key: key.map(|key| Key::new(key).unwrap()) }
    }

    #[test]
    fn every_key_is_looked_up_once_even_where_no_balance_could_take_the_changes() {
        let changes = [
            change(i64::MAX, Some("a")),
            change(i64::MAX, Some("b")),
            change(1, None),
            change(i64::MAX, Some("a")),
        ];
        assert_eq!(fold::whole(changes.iter()), None);
        for plan in [Plan::reading(changes.len()), fold::each(0, 1, changes.iter())] {
            let part = Part { user: UserId::FIRST, plan: &plan, changes: changes.iter().collect() };
            let mut keys: Vec<_> = part.keys().map(Key::as_str).collect();
            keys.dedup();
            assert!(keys.starts_with(&["a", "b"]), "{keys:?}");
            assert!(!Arrays::of(&[part]).key_texts.is_empty());
        }
    }

    #[test]
    fn the_keys_of_the_rows_are_found_by_where_they_begin() {
        let changes = [change(1, Some("one")), change(2, None), change(3, Some("three"))];
        let plan = fold::whole(changes.iter()).unwrap();
        let parts = [Part { user: UserId::FIRST, plan: &plan, changes: changes.iter().collect() }];
        let arrays = Arrays::of(&parts);
        let keys = arrays.key_starts.iter().zip(&arrays.key_lengths).map(|(start, length)| {
            let start = usize::try_from(start - 1).unwrap();
            &arrays.key_bytes[start..start + usize::try_from(*length).unwrap()]
        });
        assert_eq!(keys.collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    }

    /// The cost of a batch grows with its rows: a text in an array is found by walking over all
    /// before it.
    #[test]
    fn no_text_is_found_by_its_number() {
        for sql in [WITHOUT_KEYS, WITH_KEYS] {
            assert!(!sql.contains("text[])["), "{sql}");
        }
    }
}
