//! Shows how far a phase is: a bar on a terminal, now and then a plain line elsewhere. All of it
//! goes to standard error: standard output belongs to the report.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Drawing takes time from the burst that is being measured: often enough for the eye.
const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One phase of one approach, shown until it is finished or dropped.
pub(crate) struct Phase {
    name: String,
    total: usize,
    done: Arc<AtomicU64>,
    bar: Option<ProgressBar>,
    ticker: JoinHandle<()>,
}

impl Phase {
    /// Starts to show `name`, of which there are `total` steps.
    pub(crate) fn start(name: String, total: usize) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let bar = io::stderr().is_terminal().then(|| new_bar(&name, total));
        let ticker = tokio::spawn(tick(bar.clone(), name.clone(), total, Arc::clone(&done)));
        Self { name, total, done, bar, ticker }
    }

    /// The counter of finished steps: cheap to raise from thousands of tasks.
    pub(crate) fn done(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.done)
    }

    /// Ends the phase with a line that says how long it took.
    pub(crate) fn finish(self, took: Duration) {
        let Self { name, total, .. } = &self;
        let line = format!("{name}: {total} in {:.2} s", took.as_secs_f64());
        drop(self);
        print_line(&line);
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.ticker.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(name: &str, total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {elapsed}")
        .expect("the template is a constant")
        .progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar.set_message(name.to_owned());
    bar
}

async fn tick(bar: Option<ProgressBar>, name: String, total: usize, done: Arc<AtomicU64>) {
    let period = if bar.is_some() { BAR_EVERY } else { LINE_EVERY };
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let done = done.load(Ordering::Relaxed);
        match &bar {
            Some(bar) => bar.set_position(done),
            None => print_line(&format!("{name}: {done} of {total}")),
        }
    }
}

fn print_line(line: &str) {
    // Progress that nobody can see is no reason to stop.
    let _ = writeln!(io::stderr(), "{line}");
}
