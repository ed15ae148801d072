//! The flags of the subcommand.

use std::time::Duration;

use clap::Args;
use hyper::header::HeaderValue;
use sqlx::postgres::PgConnectOptions;

use super::WitnessPlan;
use crate::flags::{bearer, database};
use crate::load::LoadPlan;
use crate::target::Target;

/// Half of the amounts are more than this: a user can pay two or three.
const BALANCE: i64 = 1 << 34;

/// Checks that what the service acknowledges is there, once, and that nothing else is, while you break
/// what you like.
///
/// Creates users and sends every operation of the contract, at random and through all instances given:
/// changes by every route, transfers, holds, captures, releases, bulks, streams and reads, with keys and
/// without. Some clients hang up in the middle; those with a key send again until they know. Afterwards
/// every answer must agree with the histories of the users and with the moment at which it was given.
/// Restarts, lost connections, 503 and 504 are no violations: kill what you like meanwhile.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct WitnessFlags {
    /// Address of an instance; http only. May be given more than once, for instances on one database
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:3000")]
    urls: Vec<Target>,

    /// How long new requests are sent
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,

    /// No more requests than these; those that are sent again are not counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    requests: Option<u32>,

    /// How many clients send one request after another
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,

    /// How many users there are, besides a merchant; the fewer, the more they contend
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    users: u32,

    /// No more requests a second than these [default: as fast as the answers come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    per_second: Option<u32>,

    /// Repeats what each client sends [default: random, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// A request without an answer by then is a violation
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// How long outcomes are asked for at the end, and how long the final read may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,

    /// Token that is sent as "Authorization: Bearer TOKEN"
    #[arg(long, value_name = "TOKEN", value_parser = bearer)]
    token: Option<HeaderValue>,

    /// Database of the service: at the end everything in it is checked as well, as `plimsoll verify` does
    #[arg(long, value_name = "URL", value_parser = database)]
    database_url: Option<PgConnectOptions>,

    /// Print the report as one JSON document, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  Five minutes through two instances on one database; meanwhile kill, restart and cut what you like:
    concurrency-tester witness --url http://10.0.0.7:3000 --url http://10.0.0.8:3000 --seconds 300

  A short run that repeats:
    concurrency-tester witness --requests 10000 --seed 7

Exit codes:
  0  pass: everything that was acknowledged is there once, and nothing else
  1  fail: a promise is broken; the report says which
  2  bad usage
  3  could not run: an instance is not reachable, or not usable
  4  not proven: the histories could not be read to the end, or an outcome stayed unknown
  130  interrupted with Ctrl-C";

impl WitnessFlags {
    pub(crate) fn plan(self) -> WitnessPlan {
        let many = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let load = LoadPlan {
            targets: self.urls,
            authorization: self.token,
            clients: many(self.clients),
            users: many(self.users),
            balance: BALANCE,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
            answer_limit: Duration::from_secs(self.timeout),
            per_second: self.per_second,
            requests_max: self.requests.map(many),
        };
        WitnessPlan {
            load,
            duration: Duration::from_secs(self.seconds),
            patience: Duration::from_secs(self.patience),
            database: self.database_url,
            json: self.json,
        }
    }
}
