//! The rights of a role that only serves: it reads and writes what an operation needs, and can neither
//! change the schema nor rewrite the journal.
//!
//! Another role owns the tables and migrates them. PostgreSQL's default privileges would give the same
//! rights to every future table, the journal of tomorrow included. So the rights stand here beside the
//! migrations, and a test requires that every table has its line.

use sqlx::{Connection, Executor, PgConnection};
use thiserror::Error;

/// Each table, with what the service does to it. `FOR UPDATE` requires the right to update some column.
pub const RIGHTS: &[(&str, &str)] = &[
    ("users", "SELECT, INSERT, UPDATE (balance, held, version, changed_at)"),
    // Append-only: what it says stays said.
    ("balance_changes", "SELECT, INSERT"),
    ("holds", "SELECT, INSERT, UPDATE (captured, state, resolved_at)"),
    // Keys expire. Their rows are locked for that, and otherwise never change.
    ("idempotency_keys", "SELECT, INSERT, UPDATE (created_at), DELETE"),
    ("user_creation_keys", "SELECT, INSERT, UPDATE (created_at), DELETE"),
    // Which migrations there are: with MIGRATE_ON_START=false, the start looks.
    ("_sqlx_migrations", "SELECT"),
];

/// Why a role got no rights. One line each.
#[derive(Debug, Error)]
pub enum GrantError {
    /// There is no such role.
    #[error("there is no role {0}: create it first (see deploy/postgres/roles.sql)")]
    NoRole(String),
    /// Taking rights from it would have no effect, or lock the owner out.
    #[error("the role {0} owns the tables, or is a superuser: grant to a role that only serves")]
    Owner(String),
    /// The database refused, for example because somebody else owns the tables.
    #[error("cannot grant: {0}")]
    Database(#[from] sqlx::Error),
}

/// Gives `role` exactly these rights: those that it had on the tables before are taken away. One
/// transaction, so that running services notice nothing.
///
/// # Errors
/// Then nothing has changed.
pub async fn grant(connection: &mut PgConnection, role: &str) -> Result<(), GrantError> {
    let owns: Option<bool> = sqlx::query_scalar(
        r"
SELECT pg_has_role(r.oid, c.relowner, 'MEMBER')
FROM pg_roles r, pg_class c
WHERE r.rolname = $1 AND c.oid = to_regclass('balance_changes')",
    )
    .bind(role)
    .fetch_optional(&mut *connection)
    .await?;
    match owns {
        None => return Err(GrantError::NoRole(role.to_owned())),
        Some(true) => return Err(GrantError::Owner(role.to_owned())),
        Some(false) => {}
    }
    let name = quoted(role);
    let mut transaction = connection.begin().await?;
    for (table, rights) in RIGHTS {
        let revoke = format!("REVOKE ALL ON TABLE {table} FROM {name}");
        transaction.execute(revoke.as_str()).await?;
        let grant = format!("GRANT {rights} ON TABLE {table} TO {name}");
        transaction.execute(grant.as_str()).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The name of a role cannot be a parameter of `GRANT`.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_name() {
        assert_eq!(quoted("plimsoll_service"), "\"plimsoll_service\"");
        assert_eq!(quoted("a\"; DROP TABLE users; --"), "\"a\"\"; DROP TABLE users; --\"");
    }
}
