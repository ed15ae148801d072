//! The flags, and the verdict of a run.

use std::time::Duration;

use clap::Parser;

use super::*;
use crate::findings::{Kind, Tally};

#[derive(Debug, Parser)]
struct Alone {
    #[command(flatten)]
    flags: flags::WitnessFlags,
}

fn plan(arguments: &[&str]) -> Result<WitnessPlan, String> {
    let arguments = ["witness"].iter().chain(arguments);
    let parsed = Alone::try_parse_from(arguments).map_err(|error| error.to_string())?;
    Ok(parsed.flags.plan())
}

#[test]
fn without_flags_32_clients_go_for_half_a_minute_with_a_random_seed() {
    let plan = plan(&[]).unwrap();
    assert_eq!(plan.load.targets.len(), 1);
    assert_eq!((plan.load.clients, plan.load.users), (32, 10));
    assert_eq!(plan.duration, Duration::from_secs(30));
    assert_eq!(plan.load.answer_limit, Duration::from_secs(30));
    assert_eq!((plan.load.per_second, plan.load.requests_max), (None, None));
}

#[test]
fn the_command_that_repeats_a_run_draws_the_same() {
    let arguments = ["--url", "http://127.0.0.1:1", "--url", "http://127.0.0.1:2", "--requests"];
    let arguments = [&arguments[..], &["9", "--per-second", "5", "--clients", "3"]].concat();
    let first = plan(&arguments).unwrap();
    let command = text::repeat(&first);
    let words: Vec<_> = command.split_whitespace().skip(2).collect();
    let again = plan(&words).unwrap();
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    for flag in [
        "--seconds",
        "--requests",
        "--clients",
        "--users",
        "--per-second",
        "--timeout",
        "--patience",
    ] {
        let why = plan(&[flag, "0"]).expect_err(flag);
        assert!(why.contains(flag), "{why}");
    }
    assert!(plan(&["--url", "https://127.0.0.1"]).is_err());
}

fn witnessed(violated: bool, unproven: bool) -> Witnessed {
    let mut tally = Tally::default();
    if violated {
        tally.add(Kind::TimedOut, || "request 7\nsaid nothing".to_owned());
    }
    Witnessed {
        counts: Counts::default(),
        took: Duration::from_secs(1),
        judging_took: Duration::from_secs(1),
        violations: tally.into_violations(),
        unproven: unproven.then(|| "why".to_owned()).into_iter().collect(),
    }
}

#[test]
fn a_run_that_is_not_proven_never_passes() {
    let code = |violated, unproven| witnessed(violated, unproven).verdict().exit_code();
    assert_eq!([code(false, false), code(true, false)], [0, 1]);
    assert_eq!([code(false, true), code(true, true)], [4, 1]);
}

#[test]
fn an_example_of_several_lines_is_indented() {
    let mut text = Vec::new();
    text::write(&mut text, &plan(&["--seed", "7"]).unwrap(), &witnessed(true, true)).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("FAIL: 1 × no answer in time\n"), "{text}");
    assert!(text.contains("\n  - request 7\n    said nothing\n"), "{text}");
    assert!(text.contains("\nNot checked: why\n"), "{text}");
    assert!(text.contains("\nSeed 7: concurrency-tester witness --url "), "{text}");
}
