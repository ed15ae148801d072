//! The core against a simulated database, under every failure at every point.
//!
//! A seed makes a [story](story): who asks for what and when, which rows somebody holds, what other
//! instances do, and what happens to which request. It is [played](run) in simulated time, and then
//! every [promise](promises) is checked. A story that breaks one is shortened to what is needed.
//!
//! `make test` plays as many stories as fit into twenty seconds, `make simulate` as many as it is
//! told; see there.

mod promises;
mod run;
mod story;
mod world;

use std::time::{Duration, Instant};

use run::{Bug, play};
use story::Story;

/// Where the seeds of `make test` begin.
const FIRST_SEED: u64 = 0x0050_1150;

/// What is broken in the story, if anything. A panic counts.
fn broken(story: &Story, bug: Option<Bug>) -> Option<String> {
    promises::check(story, &play(story, bug)).err()
}

/// Leaves out of a story that breaks a promise whatever it can do without.
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
/// With the short story, where a promise is broken.
fn hold_promises(seed: u64) {
    let story = Story::from_seed(seed);
    if broken(&story, None).is_some() {
        let story = shortened(story, None);
        let what = broken(&story, None).unwrap_or_default();
        panic!("seed {seed} breaks a promise: {what}\n{story}");
    }
}

#[expect(clippy::disallowed_methods, reason = "`make simulate` tells a test what to do this way")]
fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: must be a whole number"))
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "`make simulate` shows how far it came")]
fn every_promise_holds_in_every_simulated_story() {
    let first = told("SIMULATE_SEED").unwrap_or(FIRST_SEED);
    let runs = told("SIMULATE_RUNS");
    let seconds = told("SIMULATE_SECONDS").or(runs.is_none().then_some(20));
    let (began, mut played) = (Instant::now(), 0);
    while runs.is_none_or(|runs| played < runs)
        && seconds.is_none_or(|seconds| began.elapsed() < Duration::from_secs(seconds))
    {
        hold_promises(first + played);
        played += 1;
    }
    assert!(played > 0);
    println!("{played} simulated stories, from seed {first} on, in {:.0?}", began.elapsed());
}

/// A simulation that finds nothing proves nothing: it must find what was there once.
#[test]
#[expect(clippy::print_stdout, reason = "`make simulate` shows the short stories")]
fn each_bug_that_was_there_once_is_found_when_it_is_put_back() {
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
