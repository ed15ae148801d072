//! The `plimsoll` executable: read the command line and the configuration, run one command.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use plimsoll::commands::{self, CommandError, Format};
use plimsoll::config::{self, Config, LogFormat};

/// With 10,000 connections it takes two thirds of the memory of glibc's allocator, at the same cost
/// per request; see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `verify` found a violation. No other command uses this code.
const VIOLATED: u8 = 1;
/// A flag or a variable has an invalid value. clap uses the same code for flags.
const BAD_USAGE: u8 = 2;
/// The command could not run: the message says why.
const COULD_NOT: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; of verify: all invariants hold
  1  verify found a violation
  2  bad usage: a flag or a variable has a value that is not allowed
  3  could not run: the message says why; of verify: nothing is known";

/// A balance service on PostgreSQL with a line that is never crossed.
#[derive(Parser)]
#[command(version, after_help = format!("{}\n{EXIT_CODES}", config::help()))]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Serve until told to stop (the default)
    Serve,
    /// Bring the database up to date, as each start of the service does, and end
    Migrate,
    /// Check that journal, balances and keys agree
    ///
    /// In one snapshot, beside running services and without blocking them. Takes two to three seconds
    /// for a million journal rows; for that time a hot account gets slower, since no dead version of
    /// its row can be cleared away.
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// Print the report as one JSON document, and nothing else, on standard output
        #[arg(long)]
        json: bool,
    },
}

/// Runs on the control thread; requests are served on threads of their own.
fn main() -> ExitCode {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, COULD_NOT),
    };
    let exit_code = runtime.block_on(command());
    // Does not wait for abandoned work, such as a DNS look-up.
    runtime.shutdown_background();
    exit_code
}

async fn command() -> ExitCode {
    let command = Arguments::parse().command.unwrap_or(Command::Serve);
    let config = match Config::from_environment() {
        Ok(config) => config,
        Err(error) => return complain(&error, BAD_USAGE),
    };
    start_logging(&config);
    match run(command, &config).await {
        Ok(exit_code) => exit_code,
        Err(error) => complain(&error, COULD_NOT),
    }
}

async fn run(command: Command, config: &Config) -> Result<ExitCode, CommandError> {
    match command {
        Command::Serve => {
            raise_open_files(config.http.connections);
            commands::serve(config).await?;
        }
        Command::Migrate => commands::migrate(config, &mut io::stdout()).await?,
        Command::Verify { json } => {
            let format = if json { Format::Json } else { Format::Text };
            if !commands::verify(config, format, &mut io::stdout()).await? {
                return Ok(ExitCode::from(VIOLATED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn complain(error: &dyn std::error::Error, exit_code: u8) -> ExitCode {
    eprintln!("plimsoll: {error}");
    ExitCode::from(exit_code)
}

fn start_logging(config: &Config) {
    let filter = EnvFilter::new(&config.log_filter);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Each connection takes a file descriptor, and the soft limit is often 1,024.
fn raise_open_files(connections: usize) {
    // The pool, the listener, the log, the files of the private cluster.
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
