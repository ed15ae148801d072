//! The `plimsoll` executable: read the configuration, start, serve until told to stop.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use plimsoll::config::{self, Config, LogFormat};
use plimsoll::service::Service;

/// A balance service on PostgreSQL with a line that is never crossed.
#[derive(Parser)]
#[command(version, after_help = config::help())]
struct Arguments {}

#[tokio::main]
async fn main() -> ExitCode {
    Arguments::parse();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plimsoll: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::from_environment()?;
    start_logging(&config);
    raise_open_files(config.http.connections);
    // Before anything is started, so that no signal finds a half-started service unprepared.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let service = Service::start(&config).await?;
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    info!(signal = name, "stopping");
    service.stop().await;
    Ok(())
}

fn start_logging(config: &Config) {
    let filter = EnvFilter::new(&config.log_filter);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// A connection is a file descriptor, and the soft limit is often 1,024.
fn raise_open_files(connections: usize) {
    // The pool, the listener, the log, the private cluster's files.
    const OTHERS: u64 = 128;
    let wanted = connections as u64 + OTHERS;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => warn!(
            limit,
            wanted,
            "the hard limit of open files is below MAX_CONNECTIONS: raise it with ulimit -Hn"
        ),
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
}
