//! The table of variables, and the section of `--help` made from it.

use std::fmt::Write as _;

use crate::approach::registry;

/// A variable of the environment.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value when none is given; empty for "unset".
    pub default: &'static str,
    /// What it means, and why it has this default.
    pub help: &'static str,
}

const fn variable(name: &'static str, default: &'static str, help: &'static str) -> Variable {
    Variable { name, default, help }
}

/// All variables, in the order of `--help` and of `.env.example`.
pub static VARIABLES: &[Variable] = &[
    variable(
        "HOST",
        "127.0.0.1",
        "address to listen on; any other than loopback needs AUTH_TOKENS or AUTH_TOKENS_FILE",
    ),
    variable("PORT", "3000", "port to listen on; 0 lets the system choose"),
    variable(
        "INTERNAL_PORT",
        "",
        "port for /metrics, /docs and the health checks, in plain HTTP; unset: all are on PORT; 0: the system chooses",
    ),
    variable(
        "INTERNAL_HOST",
        "127.0.0.1",
        "address of INTERNAL_PORT; any other than loopback needs tokens, as for HOST",
    ),
    variable(
        "DATABASE_URL",
        "",
        "postgres://… to use, with all hosts of a primary and its standbys (host1:5432,host2:5432); unset: a private PostgreSQL is run",
    ),
    variable("DATA_DIR", "", "folder of the private PostgreSQL; unset: ./data"),
    variable("PG_BIN", "", "folder of the PostgreSQL programs; unset: they are searched for"),
    variable(
        "MIGRATE_ON_START",
        "true",
        "true or false: whether the start brings the schema up to date; with false, plimsoll migrate has to",
    ),
    variable("WORKERS", "", "threads that serve HTTP; unset: one for each core"),
    variable(
        "POOL_SIZE",
        "8",
        "database sessions for changes; one user gets half of them at most, and on one hot row more are slower",
    ),
    variable("READ_POOL_SIZE", "2", "further database sessions, for what only reads"),
    variable(
        "POOL_WAIT_SECS",
        "120",
        "wait for a connection, then 503; long enough for 10,000 at once on a slow disk",
    ),
    variable(
        "ANSWER_TIMEOUT_SECS",
        "10",
        "wait for the database's answer, then 504; a statement is ended at half of it",
    ),
    variable(
        "LOCK_WAIT_MILLIS",
        "100",
        "wait of a statement for a row that others have locked; then its change is set aside for 5 s at most, then 503",
    ),
    variable("CONNECT_TIMEOUT_SECS", "30", "wait at start for a database that is still coming up"),
    variable(
        "MAX_CONNECTIONS",
        "16384",
        "open HTTP connections, half of which may be streams of events; one more closes the one that has been idle longest, or is refused with 503",
    ),
    variable(
        "HEAD_TIMEOUT_SECS",
        "15",
        "limit for a request's head, and for the first byte on a new connection; then it is closed",
    ),
    variable("BODY_TIMEOUT_SECS", "15", "limit for a request's body; then 408"),
    variable(
        "IDLE_TIMEOUT_SECS",
        "75",
        "a connection may rest so long between requests, more than a proxy's 60 s, and a stream stand still",
    ),
    variable(
        "STOP_DELAY_SECS",
        "1",
        "after SIGTERM, how long requests are still accepted while GET /readyz says 503; behind a load balancer, longer than it takes to notice; a second signal ends it",
    ),
    variable(
        "DRAIN_TIMEOUT_SECS",
        "10",
        "time for requests in flight when the service is told to stop",
    ),
    variable(
        "DEFAULT_APPROACH",
        registry::DEFAULT,
        "the approach behind PATCH /users/{id}/balance",
    ),
    variable(
        "LANES",
        "2",
        "lanes of batched, each with a database connection of its own; a user belongs to one",
    ),
    variable(
        "LANE_QUEUE",
        "16384",
        "changes that may wait in a lane, three quarters of them of one user; more are refused with 503",
    ),
    variable(
        "KEY_WAIT_SECS",
        "5",
        "a change waits so long for another one with the same Idempotency-Key, then 409",
    ),
    variable("KEY_EXPIRY_HOURS", "168", "an Idempotency-Key is kept for at least so long: 7 days"),
    variable(
        "HOLD_SWEEP_SECS",
        "1",
        "how often holds whose time is over are released; whoever needs their money before gets it",
    ),
    variable(
        "AUTH_TOKENS",
        "",
        "comma-separated bearer tokens: name:scopes:token with scopes of read, write, metrics joined by +, or a bare token for all; unset: no check",
    ),
    variable(
        "AUTH_TOKENS_FILE",
        "",
        "file with further tokens, one a line; read again on SIGHUP; lines may be blank or begin with #",
    ),
    variable(
        "TLS_CERT_FILE",
        "",
        "certificate and its chain in PEM, for HTTPS on PORT; read again on SIGHUP; unset: plain HTTP",
    ),
    variable("TLS_KEY_FILE", "", "private key of TLS_CERT_FILE in PEM; read again on SIGHUP"),
    variable(
        "DANGEROUSLY_OPEN_TO_EVERYONE",
        "",
        "yes allows addresses other than loopback without tokens; unset: the start is refused",
    ),
    variable("LOG_FORMAT", "text", "text or json; RUST_LOG sets the level (default info)"),
];

/// The section of `--help` that lists the environment.
pub fn help() -> String {
    let mut text = String::from("Environment (also read from .env in the working folder):\n");
    for Variable { name, default, help } in VARIABLES {
        let default = if default.is_empty() { "unset" } else { default };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<28} {help} [default: {default}]");
    }
    text
}
