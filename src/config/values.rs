//! Reads and checks the values of the variables.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use super::variables::VARIABLES;
use super::{NamedFile, TlsFiles, TokenSource};
use crate::approach::registry;
use crate::cluster::{ClusterOptions, default_data_dir};
use crate::store::hosts::Hosts;
use crate::store::session::SessionLimits;

/// An invalid value, or an unreadable file. One line.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A variable has a value that is not allowed.
    #[error("{name} is {value:?}: must be {allowed}")]
    Value {
        /// The variable.
        name: &'static str,
        /// Its value, or `…` for a secret.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// `.env` exists but cannot be read.
    #[error(".env: {0}")]
    File(String),
    /// A token is not of its form, or contradicts another one. Never quotes a token.
    #[error("{place} {problem}")]
    Token {
        /// The variable, and the entry or the line.
        place: String,
        /// What is wrong, or what would be right.
        problem: &'static str,
    },
    /// A file that a variable names is not usable. Never quotes the file.
    #[error("{variable} ({}) {problem}", path.display())]
    NamedFile {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl ConfigError {
    fn value(name: &'static str, value: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self::Value { name, value: value.into(), allowed: allowed.into() }
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: one line for each event.
    Text,
    /// For programs: one JSON object for each event.
    Json,
}

/// Where the balances are.
#[derive(Debug)]
pub enum DatabaseChoice {
    /// A server that is run by others, or a primary with its standbys.
    Url(Hosts),
    /// The private server.
    Private(ClusterOptions),
}

pub(super) struct Values<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
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
        value.parse().map_err(|_| ConfigError::value(name, value, allowed))
    }

    pub(super) fn number<T>(&self, name: &'static str, least: T, most: T) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let allowed = format!("a whole number from {least} to {most}");
        let number: T = self.parse(name, &allowed)?;
        if number < least || number > most {
            return Err(ConfigError::value(name, self.or_default(name), allowed));
        }
        Ok(number)
    }

    /// A variable of an earlier version. Ignoring it would change the behaviour without a word.
    pub(super) fn replaced(&self, name: &'static str, by: &str) -> Result<(), ConfigError> {
        self.given(name).map_or(Ok(()), |value| {
            Err(ConfigError::value(name, value, format!("unset: {by} have replaced it")))
        })
    }

    pub(super) fn truth(&self, name: &'static str) -> Result<bool, ConfigError> {
        self.parse(name, "true or false")
    }

    pub(super) fn seconds(&self, name: &'static str) -> Result<Duration, ConfigError> {
        self.number(name, 1, 86_400).map(Duration::from_secs)
    }

    /// An address that others can reach requires tokens: without tokens anybody could change any
    /// balance.
    fn host(&self, name: &'static str, has_tokens: bool) -> Result<IpAddr, ConfigError> {
        const OPEN: &str = "DANGEROUSLY_OPEN_TO_EVERYONE";
        let host: IpAddr = self.parse(name, "an IP address such as 127.0.0.1 or ::1")?;
        let is_open_to_everyone = match self.given(OPEN).as_deref() {
            None => false,
            Some("yes") => true,
            Some(value) => return Err(ConfigError::value(OPEN, value, "yes, or unset")),
        };
        // An IPv4 address may be written as an IPv6 address.
        let is_loopback = host.to_canonical().is_loopback();
        if is_loopback || has_tokens || is_open_to_everyone {
            return Ok(host);
        }
        let allowed = "a loopback address such as 127.0.0.1, unless AUTH_TOKENS or \
                       AUTH_TOKENS_FILE is set (or DANGEROUSLY_OPEN_TO_EVERYONE is yes)";
        Err(ConfigError::value(name, host.to_string(), allowed))
    }

    pub(super) fn listen(&self, has_tokens: bool) -> Result<SocketAddr, ConfigError> {
        let host = self.host("HOST", has_tokens)?;
        Ok(SocketAddr::new(host, self.number("PORT", 0, u16::MAX)?))
    }

    /// The address of metrics and docs, if they have one of their own.
    pub(super) fn internal(&self, has_tokens: bool) -> Result<Option<SocketAddr>, ConfigError> {
        const HOST: &str = "INTERNAL_HOST";
        const PORT: &str = "INTERNAL_PORT";
        let host = self.host(HOST, has_tokens)?;
        if self.given(PORT).is_some() {
            return Ok(Some(SocketAddr::new(host, self.number(PORT, 0, u16::MAX)?)));
        }
        match self.given(HOST) {
            None => Ok(None),
            // Set on purpose, and metrics and docs would stay where everybody reaches them.
            Some(_) => {
                let allowed = "a port, since INTERNAL_HOST is set (0: the system chooses one)";
                Err(ConfigError::value(PORT, "", allowed))
            }
        }
    }

    pub(super) fn workers(&self) -> Result<u32, ConfigError> {
        if self.given("WORKERS").is_some() {
            return self.number("WORKERS", 1, 256);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(u32::try_from(cores).unwrap_or(1))
    }

    pub(super) fn session_limits(&self) -> Result<SessionLimits, ConfigError> {
        const LOCK_WAIT: &str = "LOCK_WAIT_MILLIS";
        let answer = self.seconds("ANSWER_TIMEOUT_SECS")?;
        let lock_wait = self.number(LOCK_WAIT, 1, 60_000).map(Duration::from_millis)?;
        // With a longer wait, the server would cancel the statement first, and so the whole batch.
        if lock_wait >= answer / 2 {
            let allowed = "less than half of ANSWER_TIMEOUT_SECS";
            return Err(ConfigError::value(LOCK_WAIT, self.or_default(LOCK_WAIT), allowed));
        }
        Ok(SessionLimits { answer, lock_wait })
    }

    pub(super) fn database(&self) -> Result<DatabaseChoice, ConfigError> {
        let Some(url) = self.given("DATABASE_URL") else {
            return Ok(DatabaseChoice::Private(ClusterOptions {
                data_dir: self.given("DATA_DIR").map_or_else(default_data_dir, PathBuf::from),
                pg_bin: self.given("PG_BIN").map(PathBuf::from),
                settings: Vec::new(),
            }));
        };
        let allowed = "of the form postgres://user:password@host:port/database, or with several \
                       hosts: …@host1:port1,host2:port2/…";
        let hosts = Hosts::parse(&url);
        let hosts = hosts.ok_or_else(|| ConfigError::value("DATABASE_URL", "…", allowed))?;
        Ok(DatabaseChoice::Url(hosts))
    }

    pub(super) fn approach(&self) -> Result<&'static str, ConfigError> {
        const NAME: &str = "DEFAULT_APPROACH";
        let value = self.or_default(NAME);
        registry::names().find(|name| *name == value).ok_or_else(|| {
            let names = registry::names().collect::<Vec<_>>().join(", ");
            ConfigError::value(NAME, value, format!("one of {names}"))
        })
    }

    pub(super) fn tokens(&self) -> Result<TokenSource, ConfigError> {
        TokenSource::new(self.given("AUTH_TOKENS").as_deref(), self.file("AUTH_TOKENS_FILE"))
    }

    pub(super) fn tls(&self) -> Result<Option<TlsFiles>, ConfigError> {
        const NAMES: [&str; 2] = ["TLS_CERT_FILE", "TLS_KEY_FILE"];
        let [certificate, key] = NAMES.map(|name| self.file(name));
        let [certificate_name, key_name] = NAMES;
        let missing = |name, other| {
            let allowed = format!("the path of a file in PEM, since {other} is set");
            Err(ConfigError::value(name, "", allowed))
        };
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
            (None, Some(_)) => missing(certificate_name, key_name),
            (Some(_), None) => missing(key_name, certificate_name),
        }
    }

    fn file(&self, name: &'static str) -> Option<NamedFile> {
        self.given(name).map(|path| NamedFile::new(name, path))
    }

    pub(super) fn log_filter(&self) -> Result<String, ConfigError> {
        let value = self.given("RUST_LOG").unwrap_or_else(|| "info".to_owned());
        if EnvFilter::try_new(&value).is_ok() {
            return Ok(value);
        }
        let allowed = "a level (error, warn, info, debug, trace) or target=level,…";
        Err(ConfigError::value("RUST_LOG", value, allowed))
    }

    pub(super) fn log_format(&self) -> Result<LogFormat, ConfigError> {
        match self.or_default("LOG_FORMAT").as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            value => Err(ConfigError::value("LOG_FORMAT", value, "text or json")),
        }
    }
}
