//! The errors that stop a run. Each message says what to do about the error.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::error::FaultError;

/// Why a run stopped before its end. The message is for people and needs no context.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("--approach {approach}: the service answers: {sentence}")]
    UnknownApproach { approach: String, sentence: String },
    #[error("--user {user}: the service has no such user (it answers: {sentence})")]
    UnknownUser { user: i64, sentence: String },
    #[error(
        "--operations: the service has no transfers, it may be of an older version (it answers: \
         {sentence})"
    )]
    NoOperations { sentence: String },
    #[error("the service wants a token: pass a valid one with --token (it answers: {sentence})")]
    Unauthorized { sentence: String },

    #[error("{url} is not reachable: {why}. Is the service running there? (see --url)")]
    Unreachable { url: String, why: String },
    #[error(
        "{url} does not answer as the service should: {action} through {approach} got: {reply}"
    )]
    Unusable { url: String, approach: String, action: String, reply: String },
    #[error("{url} does not answer as the service should: {why}")]
    Unprepared { url: String, why: String },
    #[error(
        "the balance of user {user} is {found} right after it was set to {wanted}: either \
         something else changes it at the same time, or the service does not keep what it answers"
    )]
    BalanceMoved { user: i64, wanted: i64, found: i64 },
    #[error(
        "too few file descriptors: {connections} connections need {needed} open files, the limit \
         is {limit}. Raise it with `ulimit -n {needed}` (as root, or in \
         /etc/security/limits.conf, when the hard limit is lower), or pass fewer --connections"
    )]
    TooFewFiles { connections: usize, needed: u64, limit: u64 },
    #[error(
        "too few local ports: {connections} connections to one address need as many ports, this \
         machine has {available}. Widen them with `sysctl -w \
         net.ipv4.ip_local_port_range=\"1024 65535\"`, or pass fewer --connections"
    )]
    TooFewPorts { connections: usize, available: u64 },
    #[error("opened {opened} of {wanted} connections, then: {source}{}", hint(source))]
    Connecting { opened: usize, wanted: usize, source: io::Error },
    #[error("opened {opened} of {wanted} connections in {} s (see --timeout)", limit.as_secs())]
    ConnectingTooSlow { opened: usize, wanted: usize, limit: Duration },
    #[error("cannot check the database: {0} (see --database-url)")]
    Database(sqlx::Error),
    #[error("the database did not answer within {} s (see --timeout)", limit.as_secs())]
    DatabaseTooSlow { limit: Duration },
    #[error(
        "the database is not that of the service: the balance of user {user} was just set to \
         {balance}, and this database does not have it (see --database-url)"
    )]
    OtherDatabase { user: i64, balance: i64 },
    #[error("cannot write {}: {source} (see --log)", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source} (see --report and --save-baseline)", path.display())]
    ReportFile { path: PathBuf, source: io::Error },
    #[error("cannot write the report: {0}")]
    Output(io::Error),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("the faults cannot be made: {0}")]
    Faults(#[from] FaultError),

    #[error("interrupted: no verdict, and the requests sent so far may have changed balances")]
    Interrupted,
}

impl RunError {
    /// 2 if other flags would help, 3 if the machine or the service has to change, and 130, as in
    /// shells, for Ctrl-C.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownApproach { .. }
            | Self::UnknownUser { .. }
            | Self::NoOperations { .. }
            | Self::Unauthorized { .. }
            | Self::OtherDatabase { .. } => 2,
            Self::Unreachable { .. }
            | Self::Unusable { .. }
            | Self::Unprepared { .. }
            | Self::BalanceMoved { .. }
            | Self::TooFewFiles { .. }
            | Self::TooFewPorts { .. }
            | Self::Connecting { .. }
            | Self::ConnectingTooSlow { .. }
            | Self::Database(_)
            | Self::DatabaseTooSlow { .. }
            | Self::Log { .. }
            | Self::ReportFile { .. }
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Faults(_) => 3,
            Self::Interrupted => 130,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            ". All local ports are in use or still closing: wait a minute, or pass fewer \
             --connections"
        }
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            ". The service turns connections away: raise its limits, or pass fewer --connections"
        }
        _ => "",
    }
}
