//! The schema: migrated at start, on a connection without the limits of requests.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};
use thiserror::Error;
use tracing::warn;

use super::error::sqlstate;
use super::first_connection::{ConnectError, connect};
use super::migrating::StatementByStatement;
use super::session::Connector;
use super::users;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The database is unavailable or unsuitable. Each message is one line.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The connection broke.
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(#[source] sqlx::Error),
    /// It accepted no connection at start.
    #[error(transparent)]
    FirstConnection(#[from] ConnectError),
    /// A migration failed, or the database has migrations that this version does not know.
    #[error("cannot migrate the database: {}", explained(.0))]
    Migrate(#[source] MigrateError),
    /// The first user could not be created.
    #[error("cannot seed the database: {0}")]
    Seed(#[source] sqlx::Error),
    /// The start does not migrate, but somebody has to.
    #[error("the schema of the database is {0}")]
    Schema(SchemaState),
}

/// A role that only serves is not meant to change the schema.
fn explained(error: &MigrateError) -> String {
    let may_not = match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            sqlstate(cause).as_deref() == Some("42501") // insufficient_privilege
        }
        _ => false,
    };
    let hint = if may_not { "; a role that only serves needs MIGRATE_ON_START=false" } else { "" };
    format!("{error}{hint}")
}

/// The schema of a database, compared with that of this version. Each message completes "the schema of the
/// database is …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SchemaState {
    /// The same.
    #[error("up to date (migration {0})")]
    Current(i64),
    /// Migrations are missing.
    #[error("at migration {at}, but {needed} is needed: run `plimsoll migrate`")]
    Behind {
        /// The last migration; 0 where there is none.
        at: i64,
        /// The last migration of this version.
        needed: i64,
    },
    /// It has migrations that this version does not know.
    #[error(
        "at migration {at}, and this version knows {known}: start the version that migrated it"
    )]
    Ahead {
        /// The last migration.
        at: i64,
        /// The last migration of this version.
        known: i64,
    },
    /// A migration that was applied is not the one of this version.
    #[error("not that of this version: its migration {0} has another content, or is incomplete")]
    Different(i64),
    /// The role must not read which migrations there are.
    #[error("hidden from this role: run `plimsoll migrate --grant-to` with its name")]
    Hidden,
}

/// Migrates the schema and creates user 1 if it does not exist. Waits for at most `patience` for a
/// database that is starting. Several instances may run it at once: one migrates, and the others wait
/// for it without a time-out. Never changes an existing balance.
///
/// Dropping the future closes the connection: the database rolls back the migration that it has not
/// committed.
///
/// # Errors
/// A failed migration has changed nothing.
pub async fn prepare(connector: &Connector, patience: Duration) -> Result<(), StoreError> {
    let mut connection = connect(connector, patience).await?;
    let mut migrated = StatementByStatement(&mut connection);
    MIGRATIONS.run_direct(&mut migrated).await.map_err(StoreError::Migrate)?;
    users::seed(&mut connection).await.map_err(StoreError::Seed)?;
    warn_if_not_durable(&mut connection).await.map_err(StoreError::Connect)?;
    // All work is committed, so an error here does not matter.
    let _ = connection.close().await;
    Ok(())
}

/// Requires that the schema is that of this version, and changes nothing. Waits like [`prepare`].
///
/// # Errors
/// [`StoreError::Schema`] if it is not.
pub async fn require(connector: &Connector, patience: Duration) -> Result<(), StoreError> {
    let mut connection = connect(connector, patience).await?;
    match state(&mut connection).await.map_err(StoreError::Connect)? {
        SchemaState::Current(_) => {}
        other => return Err(StoreError::Schema(other)),
    }
    warn_if_not_durable(&mut connection).await.map_err(StoreError::Connect)?;
    let _ = connection.close().await;
    Ok(())
}

/// Compares the schema with that of this version. Only reads.
///
/// # Errors
/// As the database says.
pub async fn state(connection: &mut PgConnection) -> Result<SchemaState, sqlx::Error> {
    let applied: Result<Vec<(i64, bool, Vec<u8>)>, _> =
        sqlx::query_as("SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version")
            .persistent(false)
            .fetch_all(connection)
            .await;
    match applied {
        Ok(applied) => Ok(compare(&applied)),
        Err(error) => match sqlstate(&error).as_deref() {
            Some("42P01") => Ok(compare(&[])),        // undefined_table
            Some("42501") => Ok(SchemaState::Hidden), // insufficient_privilege
            _ => Err(error),
        },
    }
}

fn compare(applied: &[(i64, bool, Vec<u8>)]) -> SchemaState {
    let known: Vec<_> = MIGRATIONS.iter().collect();
    let last = known.last().map_or(0, |migration| migration.version);
    let at = applied.last().map_or(0, |(version, ..)| *version);
    let differs = applied.iter().find(|(version, is_complete, checksum)| {
        let same = known.iter().find(|migration| migration.version == *version);
        !is_complete || same.is_some_and(|migration| *migration.checksum != **checksum)
    });
    if let Some((version, ..)) = differs {
        return SchemaState::Different(*version);
    }
    if at > last {
        return SchemaState::Ahead { at, known: last };
    }
    if applied.len() < known.len() {
        return SchemaState::Behind { at, needed: last };
    }
    SchemaState::Current(at)
}

async fn warn_if_not_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let off: Vec<String> = sqlx::query_scalar(
        r"
SELECT name FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'",
    )
    .fetch_all(connection)
    .await?;
    for setting in off {
        warn!(setting, "is off: a crash of the machine can lose acknowledged changes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied() -> Vec<(i64, bool, Vec<u8>)> {
        let row = |m: &sqlx::migrate::Migration| (m.version, true, m.checksum.to_vec());
        MIGRATIONS.iter().map(row).collect()
    }

    #[test]
    fn only_the_same_migrations_are_the_same_schema() {
        let all = applied();
        let last = all.last().unwrap().0;
        assert_eq!(compare(&all), SchemaState::Current(last));
        assert_eq!(compare(&[]), SchemaState::Behind { at: 0, needed: last });
        let but_one = SchemaState::Behind { at: last - 1, needed: last };
        assert_eq!(compare(&all[..all.len() - 1]), but_one);
        let newer = [&all[..], &[(last + 1, true, vec![1])]].concat();
        assert_eq!(compare(&newer), SchemaState::Ahead { at: last + 1, known: last });
        let mut changed = all.clone();
        changed[1].2 = vec![0];
        assert_eq!(compare(&changed), SchemaState::Different(changed[1].0));
        let mut incomplete = all;
        incomplete[0].1 = false;
        assert_eq!(compare(&incomplete), SchemaState::Different(1));
    }
}
