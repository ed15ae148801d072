//! `plimsoll migrate`: brings the database up to date without serving.

use std::io::Write;

use super::database::on_database;
use super::error::CommandError;
use crate::config::Config;
use crate::store::schema;
use crate::store::session::Connector;

/// Runs the missing migrations and creates user 1 where there is none, like the start of the
/// service. Safe to repeat, and safe while services run.
///
/// # Errors
/// The problem in one line. A migration that failed has changed nothing.
pub async fn migrate(config: &Config, to: &mut impl Write) -> Result<(), CommandError> {
    on_database(config, async |options| {
        let connector = Connector::new(options, config.pool.session);
        Ok(schema::prepare(&connector, config.pool.connect).await?)
    })
    .await?;
    writeln!(to, "The database is up to date.").map_err(CommandError::Output)
}
