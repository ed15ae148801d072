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

/// `verify` found a violation, `doctor` a failure, or `health` a service that is not ready.
const NOT_WELL: u8 = 1;
/// A flag or a variable has an invalid value. clap uses the same code for flags.
const BAD_USAGE: u8 = 2;
/// The command could not run: the message says why.
const COULD_NOT: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; of verify: all invariants hold; of doctor: nothing fails; of health: ready
  1  verify found a violation, doctor a FAIL, or health a service that is not ready
  2  bad usage: a flag or a variable has a value that is not allowed
  3  could not run: the message says why; of verify and doctor: nothing is known";

/// With the commit that it was built from, see `build.rs`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("PLIMSOLL_COMMIT"), ")");

/// A balance service on PostgreSQL with a line that is never crossed.
#[derive(Parser)]
#[command(version = VERSION, after_help = format!("{}\n{EXIT_CODES}", config::help()))]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Serve until told to stop (the default)
    Serve,
    /// Bring the database up to date, as each start of the service does, and end
    Migrate {
        /// Then let this role serve, and do nothing else: neither change the schema nor rewrite the
        /// journal
        ///
        /// It has to exist, and must not own the tables. Start its service with MIGRATE_ON_START=false.
        #[arg(long, value_name = "ROLE")]
        grant_to: Option<String>,
    },
    /// Ask the service on this machine whether it is ready
    ///
    /// At the configured HOST and PORT, so that it needs the environment of the service and nothing else.
    #[command(after_help = EXIT_CODES)]
    Health,
    /// Check what production needs of the database and of this machine
    ///
    /// Run it with the environment of the service, as its user. It changes nothing; beside a running
    /// service it costs fifty commits.
    #[command(after_help = EXIT_CODES)]
    Doctor {
        /// Print the report as one JSON document, and nothing else, on standard output
        #[arg(long)]
        json: bool,
        /// How many instances share the database
        #[arg(long, value_name = "N", default_value_t = 1,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        instances: u32,
    },
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
        Err(error) => return complain(&error, COULD_NOT, config::log_format()),
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
        Err(error) => return complain(&error, BAD_USAGE, config::log_format()),
    };
    start_logging(&config);
    match run(command, &config).await {
        Ok(exit_code) => exit_code,
        Err(error) => complain(&error, COULD_NOT, config.log_format),
    }
}

async fn run(command: Command, config: &Config) -> Result<ExitCode, CommandError> {
    match command {
        Command::Serve => {
            raise_open_files(config.http.connections);
            commands::serve(config).await?;
        }
        Command::Migrate { grant_to } => {
            commands::migrate(config, grant_to.as_deref(), &mut io::stdout()).await?;
        }
        Command::Verify { json } => {
            if !commands::verify(config, format(json), &mut io::stdout()).await? {
                return Ok(ExitCode::from(NOT_WELL));
            }
        }
        Command::Doctor { json, instances } => {
            if !commands::doctor(config, instances, format(json), &mut io::stdout()).await? {
                return Ok(ExitCode::from(NOT_WELL));
            }
        }
        Command::Health => {
            if let Err(error) = commands::health(config).await {
                return Ok(complain(&error, NOT_WELL, config.log_format));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn format(json: bool) -> Format {
    if json { Format::Json } else { Format::Text }
}

/// Prints a fatal error in the format of the log, whatever the level of the log is.
fn complain(error: &dyn std::error::Error, exit_code: u8, format: LogFormat) -> ExitCode {
    match format {
        LogFormat::Text => eprintln!("plimsoll: {error}"),
        LogFormat::Json => {
            let log = tracing_subscriber::fmt().with_writer(io::stderr).json().finish();
            tracing::subscriber::with_default(log, || tracing::error!("{error}"));
        }
    }
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
