//! The roles of the private server, and the options to connect to it.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The role that the service connects as: owner of [`SERVICE_DATABASE`], not a superuser.
pub const SERVICE_ROLE: &str = "plimsoll";

/// The database of the service.
pub const SERVICE_DATABASE: &str = "plimsoll";

/// The superuser of the cluster, for tests and maintenance.
pub const SUPERUSER_ROLE: &str = "postgres";

/// Only part of the name of the socket file (`.s.PGSQL.5432`): there is no TCP.
const PORT: u16 = 5432;

/// Sets every option that the environment could preset (`PGHOST`, `PGUSER`, …).
pub(super) fn options_for(socket_dir: &Path, role: &str, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(role)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}
