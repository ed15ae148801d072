//! Sends thousands of changes to one balance at the same moment and checks that every answer is
//! exact.
//!
//! In reading order: [`flags`] says what to do, [`run`] does it for each approach, [`account`]
//! sets the balance, [`burst`] sends the requests, [`exactness`] judges the answers, [`database`]
//! looks behind them, [`report`] prints the verdict.

mod account;
mod burst;
mod client;
mod database;
mod exactness;
mod failure;
mod flags;
mod limits;
mod progress;
mod reply;
mod report;
mod response_log;
mod run;
mod target;

use std::io::{self, Write};
use std::process::ExitCode;

use failure::Failure;
use flags::Plan;
use run::Run;

fn main() -> ExitCode {
    let plan = Plan::from_command_line();
    let run = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let run = runtime.block_on(run_until_interrupted(&plan));
            // Name look-ups run on threads that cannot be cancelled: do not wait for them.
            runtime.shutdown_background();
            run
        }
        Err(error) => Run::stopped(Failure::Runtime(error)),
    };
    // After Ctrl-C nobody waits for a report, and half a report could be read as a whole one.
    if let Some(interrupted @ Failure::Interrupted) = &run.stopped {
        complain(interrupted);
        return ExitCode::from(interrupted.exit_code());
    }
    let exit_code = run.exit_code();
    if let Some(failure) = &run.stopped {
        complain(failure);
    }
    match print(&plan, &run) {
        Ok(()) => ExitCode::from(exit_code),
        Err(error) => {
            let failure = Failure::Output(error);
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run_until_interrupted(plan: &Plan) -> Run {
    tokio::select! {
        run = Box::pin(run::run(plan)) => run,
        _ = tokio::signal::ctrl_c() => Run::stopped(Failure::Interrupted),
    }
}

fn complain(failure: &Failure) {
    // When even stderr is gone, the exit code still speaks.
    let _ = writeln!(io::stderr(), "concurrency-tester: {failure}");
}

fn print(plan: &Plan, run: &Run) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if plan.json {
        report::json::write(&mut stdout, plan, run)?;
    } else {
        report::text::write(&mut stdout, plan, run)?;
    }
    stdout.flush()
}
