//! Who connects to the private server, and how.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The role that the service connects as: owner of [`SERVICE_DATABASE`], not a superuser.
pub const SERVICE_ROLE: &str = "plimsoll";

/// The database of the service.
pub const SERVICE_DATABASE: &str = "plimsoll";

/// The superuser of the cluster, for tests and maintenance.
pub const SUPERUSER_ROLE: &str = "postgres";

/// Names the socket file (`.s.PGSQL.5432`) and nothing else: there is no TCP.
const PORT: u16 = 5432;

/// Every part that the environment could have preset (`PGHOST`, `PGUSER`, …) is set here.
pub(super) fn options_for(socket_dir: &Path, role: &str, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(role)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}
