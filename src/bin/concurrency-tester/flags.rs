//! Parses the command line into a validated [`Plan`].

#[cfg(test)]
mod tests;
mod values;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use hyper::header::HeaderValue;
use sqlx::postgres::PgConnectOptions;

use crate::baseline::Comparand;
use crate::exactness::Terms;
use crate::faults::flags::{FaultFlags, FaultsPlan};
use crate::plan::{Changes, Plan, Work};
use crate::target::Target;
use crate::witness_command::WitnessPlan;
use crate::witness_command::flags::WitnessFlags;
use values::approach_name;
pub(crate) use values::{bearer, database};

/// The default opens no more connections than this, so that it fits into the usual limit of open
/// files.
const DEFAULT_CONNECTIONS_MAX: usize = 10_000;

/// In the working folder.
const DEFAULT_LOG: &str = "responses.log";

/// All answers stay in memory until they are checked: at about 100 bytes each, one gigabyte.
const REQUESTS_MAX: usize = 10_000_000;

/// Sends thousands of changes to one balance at the same moment, and checks that every single
/// answer is exact.
///
/// For each approach in turn, and then for all of them at once: sets the user's balance, opens the
/// connections, holds every request until all connections are ready, and releases them together.
/// Then exactly as many changes must be accepted as the balance can pay, each with its own resulting
/// balance, and every other answer must be {"error":"Insufficient funds"}, byte for byte.
///
/// With --operations: creates users, and makes a burst each of transfers between them, of transfers
/// into one merchant, of reservations, of captures and releases of the same holds, and of bulks. Some
/// requests carry an idempotency key and are sent several times at once. Then every answer must agree
/// with the histories of the users, entry by entry; no operation may be applied twice, in part, or
/// without an answer; and the sum of all balances must be what it was. A request whose answer is lost
/// is a violation, but its operation may have been applied or not.
#[derive(Debug, Parser)]
#[command(name = "concurrency-tester", version, after_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Flags {
    #[command(subcommand)]
    subcommand: Option<Other>,

    /// Address of the running service; http only
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    url: Target,

    /// Approach to test; may be given more than once [default: all of this version]
    #[arg(long = "approach", value_name = "NAME", value_parser = approach_name)]
    approaches: Vec<String>,

    /// After the bursts through one approach each, make one through all of them at once [default:
    /// where no --approach is given]
    #[arg(long)]
    mixed: bool,

    /// Test transfers, holds and bulks instead of changes of one balance, with users of its own
    #[arg(long, conflicts_with_all = ["approaches", "mixed", "amount", "balance", "user"])]
    operations: bool,

    /// How many requests each burst sends; of bulks, how many changes they have in all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    requests: usize,

    /// What each request changes the balance by, in minor units; above zero it is a deposit
    #[arg(long, value_name = "AMOUNT", default_value_t = -2, allow_negative_numbers = true)]
    amount: i64,

    /// The balance that each burst starts from, in minor units
    #[arg(long, value_name = "BALANCE", default_value_t = 10_000, allow_negative_numbers = true)]
    balance: i64,

    /// Whose balance is changed: a user of your test data, since it is set to --balance
    #[arg(long, value_name = "ID", default_value_t = 1)]
    user: i64,

    /// How many connections are open at once; with fewer than --requests, each sends its share one
    /// after another [default: --requests, at most 10000]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,

    /// The longest that connecting, or a whole burst, may take; a request without an answer by
    /// then is a violation
    #[arg(long, value_name = "SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// File that receives every answer; what it held before is replaced [default: responses.log, if it
    /// can be written]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Token that is sent as "Authorization: Bearer TOKEN"
    #[arg(long, value_name = "TOKEN", value_parser = bearer)]
    token: Option<HeaderValue>,

    /// Database of the service: after each burst everything in it is checked as well, as
    /// `plimsoll verify` does
    #[arg(long, value_name = "URL", value_parser = database)]
    database_url: Option<PgConnectOptions>,

    /// Print the report as one JSON document, and nothing else, on standard output
    #[arg(long)]
    json: bool,

    /// Also write the report as a page of HTML with charts, complete in itself
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// If the run ends with exit code 0, save it to be compared with later
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,

    /// Compare with a saved run of the same settings: exit code 5 if a burst is slower by more than
    /// --threshold
    #[arg(long, value_name = "FILE")]
    compare_with: Option<PathBuf>,

    /// By how many percent the time for each request, or the p99, may exceed that of --compare-with
    #[arg(long, value_name = "PERCENT", default_value_t = 25, requires = "compare_with",
          value_parser = clap::value_parser!(u16).range(1..=1_000))]
    threshold: u16,
}

/// What else there is besides the bursts.
#[derive(Debug, Subcommand)]
enum Other {
    Witness(Box<WitnessFlags>),
    Faults(FaultFlags),
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Bursts(Box<Plan>),
    Witness(Box<WitnessPlan>),
    Faults(FaultsPlan),
}

const AFTER_HELP: &str = "\
Examples:
  10000 withdrawals of 2 from a balance of 10000, through every approach and through a mix of all:
    concurrency-tester

  One approach of a service elsewhere, over 256 connections that are used again:
    concurrency-tester --url http://10.0.0.7:3000 --approach self --connections 256

  One burst through each of two approaches, and one through both at once:
    concurrency-tester --approach self --approach batched --mixed

  Deposits, which must all be accepted:
    concurrency-tester --balance 0 --amount 5 --requests 2000

  Transfers, holds and bulks:
    concurrency-tester --operations

  With a look into the database after each burst:
    concurrency-tester --database-url postgres://plimsoll:plimsoll@127.0.0.1/plimsoll

  For a script:
    concurrency-tester --json --log /tmp/responses.log | jq .verdict

  A page to pass on, and a check in CI that nothing has become slower by more than 40 percent:
    concurrency-tester --report burst.html
    concurrency-tester --save-baseline baseline.json
    concurrency-tester --compare-with baseline.json --threshold 40

Exit codes:
  0  pass: every answer was exact, and so is the database where it is given
  1  fail: an invariant is broken; the report says which
  2  bad usage: also an approach or a user that the service does not have, or another database
  3  could not run: not reachable, too few open files or ports, log not writable
  5  pass, but slower than --compare-with by more than --threshold
  130  interrupted with Ctrl-C";

impl Command {
    /// Reads the command line. On bad usage, prints the error and exits with 2.
    pub(crate) fn from_command_line() -> Self {
        let mut flags = Flags::parse();
        match flags.subcommand.take() {
            Some(Other::Witness(flags)) => Self::Witness(Box::new(flags.plan())),
            Some(Other::Faults(flags)) => Self::Faults(flags.into()),
            None => {
                let refuse = |why| Flags::command().error(ErrorKind::ValueValidation, why).exit();
                Self::Bursts(Box::new(flags.plan().unwrap_or_else(refuse)))
            }
        }
    }
}

impl Flags {
    fn plan(self) -> Result<Plan, String> {
        let requests = self.requests;
        if !(1..=REQUESTS_MAX).contains(&requests) {
            return Err(format!("--requests {requests}: must be from 1 to {REQUESTS_MAX}"));
        }
        let connections = self.connections.unwrap_or(requests.min(DEFAULT_CONNECTIONS_MAX));
        if !(1..=requests).contains(&connections) {
            return Err(format!(
                "--connections {connections}: must be from 1 to --requests ({requests}), \
                 each connection sends at least one request",
            ));
        }
        let mut plan = Plan {
            work: self.work()?,
            target: self.url,
            requests,
            connections,
            timeout: Duration::from_secs(self.timeout),
            log: self.log.or_else(default_log),
            authorization: self.token,
            database: self.database_url,
            json: self.json,
            page: self.report,
            save_baseline: self.save_baseline,
            comparand: None,
        };
        if let Some(path) = &self.compare_with {
            plan.comparand = Some(Comparand::read(path, f64::from(self.threshold), &plan)?);
        }
        Ok(plan)
    }

    fn work(&self) -> Result<Work, String> {
        if self.operations {
            return Ok(Work::Operations);
        }
        let terms = Terms { start: self.balance, amount: self.amount };
        check_terms(&terms, self.requests)?;
        if self.user < 1 {
            return Err(format!("--user {}: must be 1 or more", self.user));
        }
        if self.mixed && self.approaches.len() == 1 {
            return Err("--mixed: name at least two approaches, or none for all".to_owned());
        }
        let (approaches, mixed) = if self.approaches.is_empty() {
            (plimsoll::approach::registry::names().map(str::to_owned).collect(), true)
        } else {
            (self.approaches.clone(), self.mixed)
        };
        Ok(Work::Changes(Changes { approaches, mixed, user: self.user, terms }))
    }
}

/// The working folder may be read-only, as that of a container is: a file that nobody asked for is no
/// reason not to test.
fn default_log() -> Option<PathBuf> {
    let path = PathBuf::from(DEFAULT_LOG);
    match OpenOptions::new().append(true).create(true).open(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            // If stderr is closed, the report still has no name of a log.
            let _ = writeln!(
                io::stderr(),
                "concurrency-tester: the answers are not logged, {DEFAULT_LOG} cannot be written: \
                 {error} (see --log)"
            );
            None
        }
    }
}

fn check_terms(terms: &Terms, requests: usize) -> Result<(), String> {
    if terms.start < 0 {
        return Err(format!("--balance {}: must be 0 or more", terms.start));
    }
    // -2^63 has no positive counterpart; the contract leaves it out.
    if terms.amount == 0 || terms.amount == i64::MIN {
        return Err(format!(
            "--amount {}: must be a whole number that changes the balance, from -(2^63-1) to 2^63-1",
            terms.amount
        ));
    }
    if i64::try_from(terms.balance_after(requests)).is_err() && terms.amount > 0 {
        return Err(format!(
            "--requests {requests}: so many deposits of {} do not fit into 64 bits",
            terms.amount
        ));
    }
    Ok(())
}
