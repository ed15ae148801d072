//! Sends thousands of concurrent requests and checks that every answer is exact: changes of one
//! balance, or transfers, holds and bulks.
//!
//! In reading order: [`flags`] parses the command line into a [`plan`], [`run`] makes one burst after
//! another, [`burst`] sends the requests of one. Of changes, [`changes`] sets the balance and
//! [`exactness`] checks the answers; [`operations`] does both for all others. [`database`] checks the
//! stored data, [`report`] prints the verdict.

mod account;
mod burst;
mod changes;
mod client;
mod database;
mod exactness;
mod flags;
mod limits;
mod operations;
mod plan;
mod progress;
mod reply;
mod report;
mod response_log;
mod run;
mod run_error;
mod target;

use std::io::{self, Write};
use std::process::ExitCode;

use plan::Plan;
use run::Run;
use run_error::RunError;

fn main() -> ExitCode {
    let plan = Plan::from_command_line();
    let run = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let run = runtime.block_on(run_until_interrupted(&plan));
            // DNS look-ups run on threads that cannot be cancelled: do not wait for them.
            runtime.shutdown_background();
            run
        }
        Err(error) => Run::stopped(RunError::Runtime(error)),
    };
    // No report after Ctrl-C: a partial report could be mistaken for a complete one.
    if let Some(interrupted @ RunError::Interrupted) = &run.stopped {
        print_error(interrupted);
        return ExitCode::from(interrupted.exit_code());
    }
    let exit_code = run.exit_code();
    if let Some(error) = &run.stopped {
        print_error(error);
    }
    match print(&plan, &run) {
        Ok(()) => ExitCode::from(exit_code),
        Err(error) => {
            let error = RunError::Output(error);
            print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run_until_interrupted(plan: &Plan) -> Run {
    tokio::select! {
        run = Box::pin(run::run(plan)) => run,
        _ = tokio::signal::ctrl_c() => Run::stopped(RunError::Interrupted),
    }
}

fn print_error(error: &RunError) {
    // If stderr is closed, the exit code still reports the error.
    let _ = writeln!(io::stderr(), "concurrency-tester: {error}");
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
