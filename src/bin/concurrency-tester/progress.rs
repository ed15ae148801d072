//! Shows the progress of a phase: a bar on a terminal, otherwise a plain line every few seconds.
//! All of it goes to standard error: standard output is for the report.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Drawing takes CPU time from the burst that is being measured, so it is rare.
const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one phase of a burst, shown until it is finished or dropped.
pub(crate) struct Phase {
    name: String,
    total: usize,
    done: Arc<AtomicU64>,
    bar: Option<ProgressBar>,
    ticker: JoinHandle<()>,
}

impl Phase {
    /// Starts to show the phase `name`, which has `total` steps.
    pub(crate) fn start(name: String, total: usize) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let bar = io::stderr().is_terminal().then(|| new_bar(&name, total));
        let ticker = tokio::spawn(tick(bar.clone(), name.clone(), total, Arc::clone(&done)));
        Self { name, total, done, bar, ticker }
    }

    /// The counter of finished steps. It is cheap to increment from thousands of tasks.
    pub(crate) fn done(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.done)
    }

    /// Ends the phase and prints a line with its duration.
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
    // If stderr is closed, the run continues without progress.
    let _ = writeln!(io::stderr(), "{line}");
}
