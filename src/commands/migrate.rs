//! `plimsoll migrate`: brings the database up to date without serving.

use std::io::Write;

use sqlx::Connection;

use super::database::on_database;
use super::error::CommandError;
use crate::config::Config;
use crate::store::grants::grant;
use crate::store::schema;
use crate::store::session::Connector;

/// Runs the missing migrations and creates user 1 where there is none, like the start of the
/// service. Then, if `role` is given, that role gets the rights to serve, and loses all others on the
/// tables. Safe to repeat, and safe while services run.
///
/// # Errors
/// The problem in one line. A migration that failed has changed nothing.
pub async fn migrate(
    config: &Config,
    role: Option<&str>,
    to: &mut impl Write,
) -> Result<(), CommandError> {
    on_database(config, async |options| {
        let connector = Connector::new(options, config.pool.session);
        schema::prepare(&connector, config.pool.connect).await?;
        if let Some(role) = role {
            let opening = connector.open_without_limits();
            let mut connection = opening.await.map_err(CommandError::Connect)?;
            grant(&mut connection, role).await?;
            // All work is committed, so an error here does not matter.
            let _ = connection.close().await;
        }
        Ok(())
    })
    .await?;
    writeln!(to, "The database is up to date.").map_err(CommandError::Output)?;
    if let Some(role) = role {
        writeln!(to, "{role} may serve, and nothing else.").map_err(CommandError::Output)?;
    }
    Ok(())
}
