//! The totals of the database, read in the snapshot of the check.

use sqlx::PgConnection;

#[derive(sqlx::FromRow)]
pub(super) struct Totals {
    pub(super) users: i64,
    pub(super) changes: i64,
    pub(super) keys: i64,
    /// In decimal, since it may exceed 64 bits.
    pub(super) sum_of_balances: String,
}

impl Totals {
    pub(super) async fn count(snapshot: &mut PgConnection) -> Result<Self, sqlx::Error> {
        sqlx::query_as(TOTALS).persistent(false).fetch_one(snapshot).await
    }
}

const TOTALS: &str = r"
SELECT
    users,
    coalesce(sum, 0)::text AS sum_of_balances,
    (SELECT count(*) FROM balance_changes) AS changes,
    (SELECT count(*) FROM idempotency_keys) + (SELECT count(*) FROM user_creation_keys) AS keys
FROM (SELECT count(*) AS users, sum(balance) AS sum FROM users) AS all_users
";
