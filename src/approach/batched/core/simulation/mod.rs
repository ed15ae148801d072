//! The core against a simulated database, under every failure at every point.
//!
//! A seed generates a [story](story): the changes and their times, the rows that are locked, the
//! changes of other instances, and the fault of each request. The story is [played](run) in simulated
//! time, and then every [promise](promises) is checked. A story that breaks one is shortened.
//!
//! `make test` plays as many stories as fit into twenty seconds, `make simulate` as many as its
//! variables say.

mod promises;
mod run;
mod story;
mod world;

use std::time::{Duration, Instant};

use run::{Bug, play};
use story::Story;

/// The first seed of `make test`.
const FIRST_SEED: u64 = 0x0050_1150;

/// The promise that the story breaks, if any.
fn broken(story: &Story, bug: Option<Bug>) -> Option<String> {
    promises::check(story, &play(story, bug)).err()
}

/// Leaves out every part without which the story still breaks a promise.
fn shortened(mut story: Story, bug: Option<Bug>) -> Story {
    loop {
        let shorter = story.shorter().find(|shorter| broken(shorter, bug).is_some());
        let Some(shorter) = shorter else { return story };
        story = shorter;
    }
}

/// Plays the story of a seed.
///
/// # Panics
/// With the shortened story, where it breaks a promise.
fn check_seed(seed: u64) {
    let story = Story::from_seed(seed);
    if broken(&story, None).is_some() {
        let story = shortened(story, None);
        let what = broken(&story, None).unwrap_or_default();
        panic!("seed {seed} breaks a promise: {what}\n{story}");
    }
}

#[expect(clippy::disallowed_methods, reason = "`make simulate` configures a test this way")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: must be a whole number"))
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "`make simulate` shows its progress")]
fn every_promise_holds_in_every_simulated_story() {
    let first = variable("SIMULATE_SEED").unwrap_or(FIRST_SEED);
    let runs = variable("SIMULATE_RUNS");
    let seconds = variable("SIMULATE_SECONDS").or(runs.is_none().then_some(20));
    let (began, mut played) = (Instant::now(), 0);
    while runs.is_none_or(|runs| played < runs)
        && seconds.is_none_or(|seconds| began.elapsed() < Duration::from_secs(seconds))
    {
        check_seed(first + played);
        played += 1;
    }
    assert!(played > 0);
    println!("{played} simulated stories, from seed {first} on, in {:.0?}", began.elapsed());
}

/// A simulation that finds nothing proves nothing: it must find bugs that existed once.
#[test]
#[expect(clippy::print_stdout, reason = "`make simulate` shows the short stories")]
fn each_old_bug_is_found_when_it_is_put_back() {
    for bug in Bug::ALL {
        let seeds = FIRST_SEED..FIRST_SEED + 20_000;
        let found = seeds.map(Story::from_seed).find(|story| broken(story, Some(bug)).is_some());
        let story = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        let story = shortened(story, Some(bug));
        let what = broken(&story, Some(bug)).unwrap_or_default();
        println!("{bug:?}: {what}\n{story}");
        let parts = story.events.len() + story.faults.len();
        assert!(parts <= 12, "{bug:?}: not a short story:\n{story}");
    }
}
