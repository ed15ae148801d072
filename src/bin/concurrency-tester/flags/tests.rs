//! The defaults, the conflicts and the limits of the flags.

use super::*;

fn plan(arguments: &[&str]) -> Result<Plan, String> {
    let arguments = ["concurrency-tester"].iter().chain(arguments);
    Flags::try_parse_from(arguments).map_err(|error| error.to_string())?.plan()
}

fn changes(arguments: &[&str]) -> Changes {
    match plan(arguments).expect("the flags are valid").work {
        Work::Changes(changes) => changes,
        Work::Operations => panic!("{arguments:?} does not ask for operations"),
    }
}

#[test]
fn the_flags_are_consistent() {
    Flags::command().debug_assert();
}

#[test]
fn without_flags_ten_thousand_withdrawals_of_two_go_to_every_approach_and_to_a_mix() {
    let changes = changes(&[]);
    let all: Vec<_> = plimsoll::approach::registry::names().collect();
    let approach_sets = changes.approach_sets();
    let (mixed, alone) = approach_sets.split_last().expect("there are some");
    let alone: Vec<_> = alone.iter().flat_map(|approach_set| approach_set.approaches).collect();
    assert_eq!(alone, all);
    assert_eq!(mixed.name, "mixed");
    assert_eq!(mixed.approaches, all);
    assert_eq!((changes.terms.start, changes.terms.amount, changes.user), (10_000, -2, 1));
    let plan = plan(&[]).unwrap();
    assert_eq!((plan.requests, plan.connections), (10_000, 10_000));
}

#[test]
fn many_requests_do_not_ask_for_as_many_connections() {
    assert_eq!(plan(&["--requests", "50000"]).unwrap().connections, 10_000);
    assert_eq!(plan(&["--requests", "20"]).unwrap().connections, 20);
}

#[test]
fn approaches_of_another_version_are_passed_on() {
    let changes = changes(&["--approach", "tomorrow", "--approach", "self"]);
    let names: Vec<_> =
        changes.approach_sets().iter().map(|approach_set| approach_set.name).collect();
    assert_eq!(names, ["tomorrow", "self"]);
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    for (arguments, named) in [
        (&["--amount", "0"][..], "--amount 0"),
        (&["--amount", "-9223372036854775808"], "--amount -9223372036854775808"),
        (&["--amount", "1.5"], "--amount"),
        (&["--balance", "-1"], "--balance -1"),
        (&["--requests", "0"], "--requests 0"),
        (&["--requests", "10", "--connections", "11"], "--connections 11"),
        (&["--connections", "0"], "--connections 0"),
        (&["--user", "0"], "--user 0"),
        (&["--timeout", "0"], "--timeout"),
        (&["--url", "https://127.0.0.1:3000"], "http://"),
        (&["--approach", "a/b"], "--approach"),
        (&["--approach", "self", "--mixed"], "--mixed"),
        (&["--database-url", "mysql://127.0.0.1/plimsoll"], "postgres://"),
        (&["--token", "line\nbreak"], "--token"),
        (&["--amount", "9223372036854775807", "--requests", "2"], "64 bits"),
        (&["--operations", "--requests", "0"], "--requests 0"),
        (&["--operations", "--amount", "-2"], "--operations"),
        (&["--operations", "--balance", "5"], "--operations"),
        (&["--operations", "--user", "1"], "--operations"),
        (&["--operations", "--approach", "self"], "--operations"),
        (&["--operations", "--mixed"], "--operations"),
    ] {
        let why = plan(arguments).expect_err(&format!("{arguments:?} was accepted"));
        assert!(why.contains(named), "{arguments:?}: {why}");
    }
}

#[test]
fn a_balance_that_deposits_fill_to_the_last_unit_is_accepted() {
    let arguments = ["--balance", "9223372036854775797", "--amount", "1", "--requests", "10"];
    assert!(plan(&arguments).is_ok());
}
