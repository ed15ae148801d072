//! Configuration: the only reader of the environment and of `.env`.
//!
//! Every variable has one line in [`VARIABLES`]; `--help` is made from it, and a test holds
//! `.env.example` against it. A value that does not fit stops the start with one line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tracing_subscriber::EnvFilter;

use crate::approach::{self, ApproachOptions};
use crate::cluster::{ClusterOptions, default_data_dir};
use crate::store::PoolLimits;
use crate::store::session::SessionLimits;

/// A variable of the environment.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value where none is given; empty for "unset".
    pub default: &'static str,
    /// What it is, and why the default is what it is.
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
        "address to listen on; any other than loopback needs AUTH_TOKENS",
    ),
    variable("PORT", "3000", "port to listen on; 0 lets the system choose"),
    variable("DATABASE_URL", "", "postgres://… to use; unset: a private PostgreSQL is run"),
    variable("DATA_DIR", "", "folder of the private PostgreSQL; unset: ./data"),
    variable("PG_BIN", "", "folder of the PostgreSQL programs; unset: they are searched for"),
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
        "a statement waits so long for a row that somebody else has locked; then its change waits apart for 5 s, then 503",
    ),
    variable("CONNECT_TIMEOUT_SECS", "30", "wait at start for a database that is still coming up"),
    variable(
        "MAX_CONNECTIONS",
        "16384",
        "open HTTP connections; for one more, the one that has rested longest is closed",
    ),
    variable(
        "READ_TIMEOUT_SECS",
        "60",
        "a request's head, its body, and the taking of its answer: for each; ends idle connections",
    ),
    variable(
        "DRAIN_TIMEOUT_SECS",
        "10",
        "time for requests in flight when the service is told to stop",
    ),
    variable(
        "DEFAULT_APPROACH",
        approach::DEFAULT,
        "the approach behind PATCH /users/{id}/balance",
    ),
    variable(
        "LANES",
        "2",
        "lanes of batched, each with a database connection of its own; a user belongs to one",
    ),
    variable("LANE_QUEUE", "16384", "changes that may wait in a lane; more are refused with 503"),
    variable(
        "KEY_WAIT_SECS",
        "5",
        "a change waits so long for another one with the same Idempotency-Key, then 409",
    ),
    variable("KEY_EXPIRY_HOURS", "168", "an Idempotency-Key is kept for at least so long: 7 days"),
    variable(
        "AUTH_TOKENS",
        "",
        "comma-separated bearer tokens, each opens all routes; health checks and API document need none; unset: no check",
    ),
    variable(
        "DANGEROUSLY_OPEN_TO_EVERYONE",
        "",
        "yes allows a HOST other than loopback without AUTH_TOKENS; unset: the start is refused",
    ),
    variable("LOG_FORMAT", "text", "text or json; RUST_LOG sets the level (default info)"),
];

/// A value that does not fit. One line.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A variable has a value that is not allowed.
    #[error("{name} is {value:?}: must be {allowed}")]
    Value {
        /// The variable.
        name: &'static str,
        /// Its value; `…` where it is secret.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// `.env` is there but cannot be read.
    #[error(".env: {0}")]
    File(String),
}

/// Text for people or JSON for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Where the balances are.
#[derive(Debug)]
pub enum DatabaseChoice {
    /// A server that somebody else runs.
    Url(Box<PgConnectOptions>),
    /// A server of our own.
    Private(ClusterOptions),
}

/// Limits of the HTTP side.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Open connections at once.
    pub connections: usize,
    /// For a request's head, for its body, and for a connection at rest.
    pub read: Duration,
    /// For requests in flight at the end.
    pub drain: Duration,
}

/// Everything that can be set from outside.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the balances are.
    pub database: DatabaseChoice,
    /// Threads that serve HTTP.
    pub workers: u32,
    /// The pool's size and waits.
    pub pool: PoolLimits,
    /// The HTTP side's limits.
    pub http: HttpLimits,
    /// How changes are applied.
    pub approaches: ApproachOptions,
    /// How long an idempotency key is kept at least.
    pub key_expiry: Duration,
    /// Bearer tokens that are let in; empty: everybody is.
    pub auth_tokens: Vec<String>,
    /// Which events are logged.
    pub log_filter: String,
    /// How they are logged.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads `.env` of the working folder and the environment; the environment wins.
    ///
    /// # Errors
    /// The first value that does not fit, named with what is allowed.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let file = read_dotenv()?;
        Self::from_lookup(&|name| {
            #[expect(clippy::disallowed_methods, reason = "this is the one reader")]
            let set = std::env::var(name).ok();
            set.or_else(|| file.get(name).cloned())
        })
    }

    /// Reads from any source of values. An empty value counts as unset.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let values = Values { lookup };
        let session = values.session_limits()?;
        let auth_tokens = values.tokens()?;
        let host = values.host(&auth_tokens)?;
        let port: u16 = values.number("PORT", 0, u16::MAX)?;
        Ok(Self {
            listen: SocketAddr::new(host, port),
            database: values.database()?,
            workers: values.workers()?,
            pool: PoolLimits {
                size: values.number("POOL_SIZE", 1, 1000)?,
                reads: values.number("READ_POOL_SIZE", 1, 1000)?,
                wait: values.seconds("POOL_WAIT_SECS")?,
                session,
                connect: values.seconds("CONNECT_TIMEOUT_SECS")?,
            },
            http: HttpLimits {
                connections: values.number("MAX_CONNECTIONS", 1, 1_000_000)?,
                read: values.seconds("READ_TIMEOUT_SECS")?,
                drain: values.seconds("DRAIN_TIMEOUT_SECS")?,
            },
            approaches: ApproachOptions {
                default: values.approach()?,
                key_wait: values.seconds("KEY_WAIT_SECS")?,
                admission_wait: values.seconds("POOL_WAIT_SECS")?,
                lanes: values.number("LANES", 1, 64)?,
                lane_queue: values.number("LANE_QUEUE", 1, 1_000_000)?,
            },
            key_expiry: values
                .number("KEY_EXPIRY_HOURS", 1, 87_600)
                .map(|hours: u64| Duration::from_secs(hours * 3600))?,
            auth_tokens,
            log_filter: values.log_filter()?,
            log_format: values.log_format()?,
        })
    }
}

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

fn read_dotenv() -> Result<HashMap<String, String>, ConfigError> {
    let entries = match dotenvy::from_filename_iter(".env") {
        Ok(entries) => entries,
        Err(error) if error.not_found() => return Ok(HashMap::new()),
        Err(error) => return Err(ConfigError::File(error.to_string())),
    };
    // The parser's own message quotes the line, which may hold a password.
    entries.enumerate().try_fold(HashMap::new(), |mut all, (index, entry)| {
        let (name, value) = entry.map_err(|_| {
            ConfigError::File(format!("entry {} is not of the form NAME=value", index + 1))
        })?;
        all.insert(name, value);
        Ok(all)
    })
}

struct Values<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Values<'_> {
    fn given(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn or_default(&self, name: &'static str) -> String {
        self.given(name).unwrap_or_else(|| {
            let known = VARIABLES.iter().find(|variable| variable.name == name);
            known.expect("every variable that is read is listed").default.to_owned()
        })
    }

    fn parse<T: FromStr>(&self, name: &'static str, allowed: &str) -> Result<T, ConfigError> {
        let value = self.or_default(name);
        value.parse().map_err(|_| ConfigError::Value { name, value, allowed: allowed.to_owned() })
    }

    fn number<T>(&self, name: &'static str, least: T, most: T) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let allowed = format!("a whole number from {least} to {most}");
        let number: T = self.parse(name, &allowed)?;
        if number < least || number > most {
            let value = self.or_default(name);
            return Err(ConfigError::Value { name, value, allowed });
        }
        Ok(number)
    }

    /// An address that others can reach needs tokens: without them anybody may change any balance.
    fn host(&self, auth_tokens: &[String]) -> Result<IpAddr, ConfigError> {
        let host: IpAddr = self.parse("HOST", "an IP address such as 127.0.0.1 or ::1")?;
        let is_open_to_everyone = match self.given("DANGEROUSLY_OPEN_TO_EVERYONE").as_deref() {
            None => false,
            Some("yes") => true,
            Some(value) => {
                return Err(ConfigError::Value {
                    name: "DANGEROUSLY_OPEN_TO_EVERYONE",
                    value: value.to_owned(),
                    allowed: "yes, or unset".to_owned(),
                });
            }
        };
        // An IPv4 address may be written as an IPv6 one.
        let is_loopback = host.to_canonical().is_loopback();
        if is_loopback || !auth_tokens.is_empty() || is_open_to_everyone {
            return Ok(host);
        }
        Err(ConfigError::Value {
            name: "HOST",
            value: host.to_string(),
            allowed: "a loopback address such as 127.0.0.1, unless AUTH_TOKENS is set \
                      (or DANGEROUSLY_OPEN_TO_EVERYONE is yes)"
                .to_owned(),
        })
    }

    fn workers(&self) -> Result<u32, ConfigError> {
        if self.given("WORKERS").is_some() {
            return self.number("WORKERS", 1, 256);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(u32::try_from(cores).unwrap_or(1))
    }

    fn seconds(&self, name: &'static str) -> Result<Duration, ConfigError> {
        self.number(name, 1, 86_400).map(Duration::from_secs)
    }

    fn session_limits(&self) -> Result<SessionLimits, ConfigError> {
        let answer = self.seconds("ANSWER_TIMEOUT_SECS")?;
        let lock_wait = self.number("LOCK_WAIT_MILLIS", 1, 60_000).map(Duration::from_millis)?;
        // Otherwise the server would end the statement first, and with it the whole batch.
        if lock_wait >= answer / 2 {
            return Err(ConfigError::Value {
                name: "LOCK_WAIT_MILLIS",
                value: self.or_default("LOCK_WAIT_MILLIS"),
                allowed: "less than half of ANSWER_TIMEOUT_SECS".to_owned(),
            });
        }
        Ok(SessionLimits { answer, lock_wait })
    }

    fn database(&self) -> Result<DatabaseChoice, ConfigError> {
        if let Some(url) = self.given("DATABASE_URL") {
            let scheme_fits = url.starts_with("postgres://") || url.starts_with("postgresql://");
            return url
                .parse()
                .ok()
                .filter(|_| scheme_fits)
                .map(|options| DatabaseChoice::Url(Box::new(options)))
                .ok_or_else(|| ConfigError::Value {
                    name: "DATABASE_URL",
                    value: "…".to_owned(),
                    allowed: "of the form postgres://user:password@host:port/database".to_owned(),
                });
        }
        Ok(DatabaseChoice::Private(ClusterOptions {
            data_dir: self.given("DATA_DIR").map_or_else(default_data_dir, PathBuf::from),
            pg_bin: self.given("PG_BIN").map(PathBuf::from),
            settings: Vec::new(),
        }))
    }

    fn approach(&self) -> Result<&'static str, ConfigError> {
        let value = self.or_default("DEFAULT_APPROACH");
        approach::names().find(|name| *name == value).ok_or_else(|| ConfigError::Value {
            name: "DEFAULT_APPROACH",
            value,
            allowed: format!("one of {}", approach::names().collect::<Vec<_>>().join(", ")),
        })
    }

    fn tokens(&self) -> Result<Vec<String>, ConfigError> {
        let Some(list) = self.given("AUTH_TOKENS") else { return Ok(Vec::new()) };
        let tokens: Vec<String> = list.split(',').map(|token| token.trim().to_owned()).collect();
        let fits =
            |token: &String| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if tokens.iter().all(fits) {
            return Ok(tokens);
        }
        Err(ConfigError::Value {
            name: "AUTH_TOKENS",
            value: "…".to_owned(),
            allowed: "visible ASCII tokens, separated by commas, none of them empty".to_owned(),
        })
    }

    fn log_filter(&self) -> Result<String, ConfigError> {
        let value = self.given("RUST_LOG").unwrap_or_else(|| "info".to_owned());
        match EnvFilter::try_new(&value) {
            Ok(_) => Ok(value),
            Err(_) => Err(ConfigError::Value {
                name: "RUST_LOG",
                value,
                allowed: "a level (error, warn, info, debug, trace) or target=level,…".to_owned(),
            }),
        }
    }

    fn log_format(&self) -> Result<LogFormat, ConfigError> {
        let value = self.or_default("LOG_FORMAT");
        match value.as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => {
                let allowed = "text or json".to_owned();
                Err(ConfigError::Value { name: "LOG_FORMAT", value, allowed })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let map: HashMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Config::from_lookup(&|name| map.get(name).cloned())
    }

    #[test]
    fn nothing_set_means_loopback_and_a_private_cluster() {
        let config = with(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:3000");
        assert!(matches!(config.database, DatabaseChoice::Private(_)));
        assert!(config.auth_tokens.is_empty());
    }

    #[test]
    fn a_bad_value_is_named_with_what_is_allowed() {
        let line = |pairs| with(pairs).unwrap_err().to_string();
        assert_eq!(
            line(&[("PORT", "70000")]),
            "PORT is \"70000\": must be a whole number from 0 to 65535"
        );
        assert_eq!(
            line(&[("POOL_SIZE", "0")]),
            "POOL_SIZE is \"0\": must be a whole number from 1 to 1000"
        );
        assert_eq!(line(&[("LOG_FORMAT", "xml")]), "LOG_FORMAT is \"xml\": must be text or json");
        assert!(line(&[("HOST", "localhost:1")]).starts_with("HOST is \"localhost:1\": must be"));
        assert_eq!(
            line(&[("LOCK_WAIT_MILLIS", "5000")]),
            "LOCK_WAIT_MILLIS is \"5000\": must be less than half of ANSWER_TIMEOUT_SECS"
        );
        assert!(line(&[("RUST_LOG", "a=b=c")]).starts_with("RUST_LOG is \"a=b=c\": must be"));
    }

    #[test]
    fn an_address_that_others_can_reach_needs_tokens() {
        for host in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
            let line = with(&[("HOST", host)]).unwrap_err().to_string();
            assert_eq!(
                line,
                format!(
                    "HOST is \"{host}\": must be a loopback address such as 127.0.0.1, unless \
                     AUTH_TOKENS is set (or DANGEROUSLY_OPEN_TO_EVERYONE is yes)"
                )
            );
            let config = with(&[("HOST", host), ("AUTH_TOKENS", "alpha")]).unwrap();
            assert_eq!(config.listen.ip().to_string(), host);
            let config = with(&[("HOST", host), ("DANGEROUSLY_OPEN_TO_EVERYONE", "yes")]).unwrap();
            assert_eq!(config.listen.ip().to_string(), host);
        }
        for host in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(with(&[("HOST", host)]).unwrap().listen.ip().to_string(), host);
        }
    }

    #[test]
    fn only_yes_opens_the_service_to_everyone() {
        for value in ["no", "1", "true", "YES", "yes!"] {
            // Also where nothing depends on it: it was meant to say something.
            for host in ["0.0.0.0", "127.0.0.1"] {
                let line = with(&[("HOST", host), ("DANGEROUSLY_OPEN_TO_EVERYONE", value)]);
                assert_eq!(
                    line.unwrap_err().to_string(),
                    format!("DANGEROUSLY_OPEN_TO_EVERYONE is {value:?}: must be yes, or unset")
                );
            }
        }
    }

    #[test]
    fn secrets_are_never_quoted() {
        for (name, value) in
            [("DATABASE_URL", "mysql://u:hunter2@h/d"), ("AUTH_TOKENS", "hunter2,,")]
        {
            let line = with(&[(name, value)]).unwrap_err().to_string();
            assert!(line.starts_with(name), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn the_example_file_and_the_help_list_every_variable_with_its_default() {
        let example = include_str!("../.env.example");
        for Variable { name, default, .. } in VARIABLES {
            let line = format!("{name}={default}");
            let found = example.lines().any(|l| {
                let text = l.trim_start_matches("# ").trim();
                if default.is_empty() { text.starts_with(&line) } else { text == line }
            });
            assert!(found, ".env.example lacks {line}");
            assert!(help().contains(name));
        }
    }
}
