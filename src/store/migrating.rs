//! Migrations, statement by statement.
//!
//! sqlx sends a whole migration as one query string. A cluster that shards the tables forwards that
//! string for each statement in it, and its shards refuse several commands at once. So each statement
//! is sent alone, still in one transaction with the record of the migration.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;
use tracing::info;

/// How long the start waits for another instance before it says so.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A connection that sends the statements of a migration one by one.
pub(super) struct StatementByStatement<'c>(pub(super) &'c mut PgConnection);

impl Migrate for StatementByStatement<'_> {
    fn ensure_migrations_table(&mut self) -> BoxFuture<'_, Result<(), MigrateError>> {
        self.0.ensure_migrations_table()
    }

    fn dirty_version(&mut self) -> BoxFuture<'_, Result<Option<i64>, MigrateError>> {
        self.0.dirty_version()
    }

    fn list_applied_migrations(
        &mut self,
    ) -> BoxFuture<'_, Result<Vec<AppliedMigration>, MigrateError>> {
        self.0.list_applied_migrations()
    }

    fn lock(&mut self) -> BoxFuture<'_, Result<(), MigrateError>> {
        Box::pin(async move {
            let mut locking = self.0.lock();
            if let Ok(locked) = timeout(SILENCE_MAX, &mut locking).await {
                return locked;
            }
            info!("another instance migrates the schema: waiting until it is done");
            locking.await
        })
    }

    fn unlock(&mut self) -> BoxFuture<'_, Result<(), MigrateError>> {
        self.0.unlock()
    }

    fn apply<'e: 'm, 'm>(
        &'e mut self,
        migration: &'m Migration,
    ) -> BoxFuture<'m, Result<Duration, MigrateError>> {
        Box::pin(async move {
            // It may take minutes.
            info!(version = migration.version, "migrating the schema");
            let failed = |error| MigrateError::ExecuteMigration(error, migration.version);
            let mut transaction = self.0.begin().await?;
            for statement in statements(&migration.sql) {
                transaction.execute(statement).await.map_err(failed)?;
            }
            // sqlx records the migration, in the same transaction.
            let recorded = Migration { sql: "SELECT".into(), ..migration.clone() };
            let elapsed = transaction.apply(&recorded).await?;
            transaction.commit().await?;
            Ok(elapsed)
        })
    }

    fn revert<'e: 'm, 'm>(
        &'e mut self,
        migration: &'m Migration,
    ) -> BoxFuture<'m, Result<Duration, MigrateError>> {
        self.0.revert(migration)
    }
}

/// The statements of a migration. Each ends with a semicolon at the end of a line that is no comment.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let mut length = 0;
        for line in rest.split_inclusive('\n') {
            length += line.len();
            let line = line.trim();
            if line.ends_with(';') && !line.starts_with("--") {
                break;
            }
        }
        let (statement, after) = rest.split_at(length);
        rest = after;
        let is_comment = |line: &str| line.trim().is_empty() || line.trim().starts_with("--");
        (!statement.lines().all(is_comment)).then_some(statement)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_split_at_the_ends_of_its_statements() {
        let sql = "-- Why; and so on;\nCREATE TABLE a (\n    -- one;\n    b int -- two; three\n);\n\
                   SELECT ';' AS c;\nUPDATE a\nSET b = 1;\n-- The end;\n";
        let found: Vec<_> = statements(sql).collect();
        assert_eq!(found.concat() + "-- The end;\n", sql);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[2].starts_with("UPDATE"));
    }
}
