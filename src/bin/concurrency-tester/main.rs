//! Sends thousands of concurrent requests and checks that every answer is exact: changes of one
//! balance, or transfers, holds and bulks.
//!
//! In reading order: [`flags`] parses the command line into a [`plan`], [`run`] makes one burst after
//! another, [`burst`] sends the requests of one. Of changes, [`changes`] sets the balance and
//! [`exactness`] checks the answers; [`operations`] does both for all others. [`database`] checks the
//! stored data, [`report`] prints the verdict.
//!
//! The subcommand `witness` ([`witness_command`]) makes a [`load`] of everything, which may be disturbed, and
//! lets the [`witness`] judge it. The subcommand `faults` ([`faults`]) starts the service itself, and disturbs
//! it.

mod account;
mod baseline;
mod burst;
mod changes;
mod client;
mod contract;
mod database;
mod exactness;
mod faults;
mod figures;
mod findings;
mod flags;
mod limits;
mod load;
mod operations;
mod plan;
mod progress;
mod reply;
mod report;
mod response_log;
mod run;
mod run_error;
mod target;
mod witness;
mod witness_command;

use std::fs;
use std::io::{self, StdoutLock, Write};
use std::path::Path;
use std::process::ExitCode;

use faults::flags::FaultsPlan;
use flags::Command;
use plan::Plan;
use run::Run;
use run_error::RunError;
use witness_command::WitnessPlan;

fn main() -> ExitCode {
    let command = Command::from_command_line();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return not_started(&command, RunError::Runtime(error)),
    };
    let code = match &command {
        Command::Bursts(plan) => {
            let run = runtime.block_on(until_interrupted(run::run(plan)));
            run.map_or_else(|error| ended(&error), |run| report_bursts(plan, &run))
        }
        Command::Witness(plan) => {
            let run = runtime.block_on(until_interrupted(witness_command::run(plan)));
            run.flatten().map_or_else(|error| ended(&error), |run| report_witness(plan, &run))
        }
        Command::Faults(plan) => {
            let run = runtime.block_on(until_interrupted(faults::run(plan)));
            run.flatten().map_or_else(|error| ended(&error), |run| report_faults(plan, &run))
        }
    };
    // DNS look-ups run on threads that cannot be cancelled: do not wait for them.
    runtime.shutdown_background();
    code
}

/// No report after Ctrl-C: a partial report could be mistaken for a complete one.
async fn until_interrupted<T>(run: impl Future<Output = T>) -> Result<T, RunError> {
    tokio::select! {
        run = Box::pin(run) => Ok(run),
        _ = tokio::signal::ctrl_c() => Err(RunError::Interrupted),
    }
}

fn report_bursts(plan: &Plan, run: &Run) -> ExitCode {
    let exit_code = run.exit_code(plan);
    if let Some(error) = &run.stopped {
        print_error(error);
    }
    if let Err(error) = write_files(plan, run) {
        print_error(&error);
        // A verdict that is no pass says more.
        let exit_code = if exit_code == 0 { error.exit_code() } else { exit_code };
        return print_bursts(exit_code, plan, run);
    }
    print_bursts(exit_code, plan, run)
}

fn print_bursts(exit_code: u8, plan: &Plan, run: &Run) -> ExitCode {
    print(exit_code, |stdout| match plan.json {
        true => report::json::write(stdout, plan, run),
        false => report::text::write(stdout, plan, run),
    })
}

/// The page of any run, and the baseline of one that has passed and is not slower than its own.
fn write_files(plan: &Plan, run: &Run) -> Result<(), RunError> {
    let written = |path: &Path, text: &[u8]| {
        fs::write(path, text)
            .map_err(|source| RunError::ReportFile { path: path.to_owned(), source })
    };
    if let Some(path) = &plan.page {
        written(path, report::page::page(plan, run).as_bytes())?;
    }
    if let Some(path) = &plan.save_baseline
        && run.exit_code(plan) == 0
    {
        let mut text = Vec::new();
        report::json::write(&mut text, plan, run).map_err(RunError::Output)?;
        written(path, &text)?;
    }
    Ok(())
}

fn report_witness(plan: &WitnessPlan, run: &witness_command::Witnessed) -> ExitCode {
    print(run.verdict().exit_code(), |stdout| match plan.json {
        true => witness_command::json::write(stdout, plan, run),
        false => witness_command::text::write(stdout, plan, run),
    })
}

fn report_faults(plan: &FaultsPlan, run: &faults::report::Report) -> ExitCode {
    if let Err(error) = plan.report.as_deref().map_or(Ok(()), |path| fs::write(path, run.page())) {
        return ended(&RunError::Output(error));
    }
    print(run.verdict().exit_code(), |stdout| write!(stdout, "{run}"))
}

/// The bursts have a report for programs even then.
fn not_started(command: &Command, error: RunError) -> ExitCode {
    match command {
        Command::Bursts(plan) => report_bursts(plan, &Run::stopped(error)),
        Command::Witness(_) | Command::Faults(_) => ended(&error),
    }
}

/// Ends without a report.
fn ended(error: &RunError) -> ExitCode {
    print_error(error);
    ExitCode::from(error.exit_code())
}

fn print_error(error: &RunError) {
    // If stderr is closed, the exit code still reports the error.
    let _ = writeln!(io::stderr(), "concurrency-tester: {error}");
}

fn print(exit_code: u8, write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match write(&mut stdout).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::from(exit_code),
        Err(error) => ended(&RunError::Output(error)),
    }
}
