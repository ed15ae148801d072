//! What the checks look at.

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::Config;

/// What is examined.
pub struct Subject<'a> {
    /// The configuration of the service.
    pub config: &'a Config,
    /// How the service connects.
    pub options: &'a PgConnectOptions,
    /// A connection of the service's role, with its defaults.
    pub connection: &'a mut PgConnection,
    /// How many instances of the service share the database.
    pub instances: u32,
}

/// A setting as new sessions of this role get it. The connection's own may have been changed.
pub(super) async fn setting(
    connection: &mut PgConnection,
    name: &str,
) -> Result<String, sqlx::Error> {
    let value: Option<String> =
        sqlx::query_scalar("SELECT coalesce(reset_val, '') FROM pg_settings WHERE name = $1")
            .bind(name)
            .fetch_optional(connection)
            .await?;
    Ok(value.unwrap_or_default())
}
