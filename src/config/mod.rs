//! Configuration: the only reader of the environment and of `.env`.
//!
//! Every variable has one line in [`VARIABLES`]. `--help` is made from that table, and a test
//! compares `.env.example` with it. An invalid value stops the start with a message of one line.

mod secret_file;
#[cfg(test)]
mod tests;
pub mod tokens;
mod values;
mod variables;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::approach::registry::ApproachOptions;
use crate::store::PoolLimits;

pub use secret_file::NamedFile;
pub use tokens::TokenSource;
pub use values::{ConfigError, DatabaseChoice, LogFormat};
pub use variables::{VARIABLES, Variable, help};

use values::Values;

/// Limits of the HTTP side.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// The most connections open at once.
    pub connections: usize,
    /// Time limit for the head of a request, from its first byte on; of the first request on a
    /// connection, from the opening on.
    pub head: Duration,
    /// Time limit for the body of a request.
    pub body: Duration,
    /// How long a connection may rest between two requests, and a stream may stand still.
    pub idle: Duration,
    /// How long new requests are still accepted after the stop has been announced.
    pub stop_delay: Duration,
    /// Time limit for the requests in flight at shutdown.
    pub drain: Duration,
}

impl HttpLimits {
    /// The most streams of events. A stream is never closed for another connection, so the other half of
    /// the connections is left for requests.
    pub fn event_streams(&self) -> usize {
        (self.connections / 2).max(1)
    }
}

/// The files of a certificate, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, then those that lead from it to its root.
    pub certificate: NamedFile,
    /// Its private key.
    pub key: NamedFile,
}

/// Everything that can be set from outside.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where metrics and docs are served, if not on [`Self::listen`].
    pub internal: Option<SocketAddr>,
    /// The certificate of [`Self::listen`]. Without one, it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where the balances are.
    pub database: DatabaseChoice,
    /// Whether the start brings the schema up to date. Otherwise it requires that it is.
    pub migrate_on_start: bool,
    /// Threads that serve HTTP.
    pub workers: u32,
    /// The size of the pool and its time limits.
    pub pool: PoolLimits,
    /// The limits of the HTTP side.
    pub http: HttpLimits,
    /// How changes are applied.
    pub approaches: ApproachOptions,
    /// How long an idempotency key is kept, at least.
    pub key_expiry: Duration,
    /// How often holds whose time is over are released.
    pub hold_sweep: Duration,
    /// The accepted bearer tokens. If none are set, everybody is admitted.
    pub tokens: TokenSource,
    /// Which events are logged.
    pub log_filter: String,
    /// The format of the log.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads `.env` in the working folder, and the environment, which takes precedence.
    ///
    /// # Errors
    /// The first invalid value, with its name and the allowed values.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let file = read_dotenv()?;
        Self::from_lookup(&|name| from_process(name).or_else(|| file.get(name).cloned()))
    }

    /// Reads from any source of values. An empty value counts as unset.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let values = Values { lookup };
        values.replaced(
            "READ_TIMEOUT_SECS",
            "HEAD_TIMEOUT_SECS, BODY_TIMEOUT_SECS and IDLE_TIMEOUT_SECS",
        )?;
        let session = values.session_limits()?;
        let tokens = values.tokens()?;
        Ok(Self {
            listen: values.listen(tokens.is_set())?,
            internal: values.internal(tokens.is_set())?,
            tls: values.tls()?,
            database: values.database()?,
            migrate_on_start: values.truth("MIGRATE_ON_START")?,
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
                head: values.seconds("HEAD_TIMEOUT_SECS")?,
                body: values.seconds("BODY_TIMEOUT_SECS")?,
                idle: values.seconds("IDLE_TIMEOUT_SECS")?,
                stop_delay: values.number("STOP_DELAY_SECS", 0, 3600).map(Duration::from_secs)?,
                drain: values.seconds("DRAIN_TIMEOUT_SECS")?,
            },
            approaches: ApproachOptions {
                default: values.approach()?,
                key_wait: values.seconds("KEY_WAIT_SECS")?,
                admission_wait: values.seconds("POOL_WAIT_SECS")?,
                lanes: values.number("LANES", 1, 64)?,
                lane_queue: values.number("LANE_QUEUE", 1, 1_000_000)?,
                in_flight: values.number("MAX_CONNECTIONS", 1, 1_000_000)?,
            },
            hold_sweep: values.number("HOLD_SWEEP_SECS", 1, 86_400).map(Duration::from_secs)?,
            key_expiry: values
                .number("KEY_EXPIRY_HOURS", 1, 87_600)
                .map(|hours: u64| Duration::from_secs(hours * 3600))?,
            tokens,
            log_filter: values.log_filter()?,
            log_format: values.log_format()?,
        })
    }
}

/// The format of the log, for an error that leaves no configuration. Text unless the rest says otherwise.
pub fn log_format() -> LogFormat {
    let file = read_dotenv().unwrap_or_default();
    let lookup = |name: &str| from_process(name).or_else(|| file.get(name).cloned());
    Values { lookup: &lookup }.log_format().unwrap_or(LogFormat::Text)
}

fn from_process(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader")]
    std::env::var(name).ok()
}

fn read_dotenv() -> Result<HashMap<String, String>, ConfigError> {
    let entries = match dotenvy::from_filename_iter(".env") {
        Ok(entries) => entries,
        Err(error) if error.not_found() => return Ok(HashMap::new()),
        Err(error) => return Err(ConfigError::File(error.to_string())),
    };
    // The message of the parser quotes the line, which may hold a password.
    entries.enumerate().try_fold(HashMap::new(), |mut all, (index, entry)| {
        let (name, value) = entry.map_err(|_| {
            ConfigError::File(format!("entry {} is not of the form NAME=value", index + 1))
        })?;
        all.insert(name, value);
        Ok(all)
    })
}
