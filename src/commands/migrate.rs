//! `plimsoll migrate`: brings the database up to date without serving.

use std::io::Write;
use std::time::Duration;

use super::CommandError;
use super::database::on_database;
use crate::config::Config;
use crate::store::{PoolLimits, Store};

/// A migration may rewrite a large table: the service's limit, half of `ANSWER_TIMEOUT_SECS` for a
/// statement, would break it off. Half of this is more than any of ours takes.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Does what a start of the service does before it listens: runs the migrations that are missing
/// and creates user 1 where there is none. Safe while services run, and to repeat.
///
/// # Errors
/// Says in one line what is wrong; a migration that failed has changed nothing.
pub async fn migrate(config: &Config, to: &mut impl Write) -> Result<(), CommandError> {
    let limits = PoolLimits { size: 1, answer: PATIENCE, ..config.pool };
    on_database(config, async |options| {
        let store = Store::open(options, limits).await?;
        let prepared = store.prepare().await;
        store.close().await;
        Ok(prepared?)
    })
    .await?;
    writeln!(to, "The database is up to date.").map_err(CommandError::Output)
}
