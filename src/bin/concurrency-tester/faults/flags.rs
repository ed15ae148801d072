//! The command line of `concurrency-tester faults`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::kind::Kind;
use super::schedule::Pace;

/// Starts PostgreSQL and two instances of the service, breaks everything around them and then them while
/// requests are under way, and checks that every answer was true.
///
/// Everything runs below a temporary folder and is ended afterwards. The executable `plimsoll` must lie
/// beside this one. In each round, faults follow each other for as long as the round lasts; then every
/// operation with a key is asked for until its outcome is known, and all answers are compared with the
/// journal.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct FaultFlags {
    /// A short selection: in little more than a minute, the kinds that need no long time
    #[arg(long, conflicts_with_all = ["minutes", "seconds"])]
    quick: bool,

    /// How long faults are made, all rounds together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: Option<u64>,

    /// The same in seconds, for a single round or two
    #[arg(long, value_name = "N", conflicts_with = "minutes",
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    seconds: Option<u64>,

    /// Decides which faults happen, in which order, to whom and for how long [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Only these kinds, separated by commas
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,

    /// The most requests a second
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_second: u32,

    /// Also write the report to this file, as a page in Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Keep the folder with the logs of all processes
    #[arg(long)]
    keep: bool,
}

const AFTER_HELP: &str = "\
Examples:
  A little more than a minute, also as another user than root:
    concurrency-tester faults --quick

  Half an hour, with a page for others:
    concurrency-tester faults --minutes 30 --report faults.md

  The same faults again, of two kinds only:
    concurrency-tester faults --minutes 5 --seed 17 --only failover,db-cut-after

Exit codes:
  0  pass: every answer was true, the database agrees, and the service worked again after each fault
  1  fail: the report says what was found, in which round
  2  bad usage
  3  could not run: no PostgreSQL, no executable plimsoll beside this one, no room
  4  not proven: the final read is incomplete, or an operation with a key stayed unknown
  130  interrupted with Ctrl-C or SIGTERM";

/// The validated settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct FaultsPlan {
    pub(crate) length: Length,
    pub(crate) seed: u64,
    /// Empty: all.
    pub(crate) only: Vec<Kind>,
    pub(crate) per_second: u32,
    pub(crate) report: Option<PathBuf>,
    pub(crate) keep: bool,
}

/// How long the faults last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Quick,
    Lasting(Duration),
}

impl Length {
    pub(crate) fn pace(self) -> Pace {
        match self {
            Self::Lasting(length) if length > Duration::from_secs(60) => Pace::Steady,
            _ => Pace::Quick,
        }
    }
}

impl From<FaultFlags> for FaultsPlan {
    fn from(flags: FaultFlags) -> Self {
        let seconds = flags.seconds.or(flags.minutes.map(|minutes| minutes * 60)).unwrap_or(8 * 60);
        let length = match flags.quick {
            true => Length::Quick,
            false => Length::Lasting(Duration::from_secs(seconds)),
        };
        Self {
            length,
            // Short enough to be typed.
            seed: flags.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000)),
            only: flags.only,
            per_second: flags.per_second,
            report: flags.report,
            keep: flags.keep,
        }
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| {
        let names: Vec<_> = Kind::all().map(|kind| kind.to_string()).collect();
        format!("there are: {}", names.join(", "))
    })
}
