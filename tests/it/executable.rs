//! Runs the real executable with one subcommand, in a folder and an environment of its own.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs in this folder with only these variables, so that no `.env` has an effect.
pub(crate) fn plimsoll(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
    // These folders have PostgreSQL and `id`, which root needs.
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").envs(variables.iter().copied());
    command
}

/// Runs it to its end.
pub(crate) async fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let ended = timeout(PATIENCE, plimsoll(folder, arguments, variables).output()).await;
    ended.expect("it ends").expect("it runs")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// The last line on standard error.
pub(crate) fn error_line(output: &Output) -> &str {
    let errors = text(&output.stderr);
    errors.lines().last().unwrap_or_else(|| panic!("it says something: {output:?}"))
}

pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).expect("it runs");
    kill_process(pid, signal).expect("the signal is sent");
}

/// Starts a service and waits until it listens.
pub(crate) async fn serve(folder: &Path, variables: &[(&str, &str)]) -> Child {
    let (service, mut log) = start(folder, &["serve"], variables);
    wait_for(&mut log, "listening on").await;
    // Keep reading, so that a full pipe never blocks the service.
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    service
}

/// Starts it. Returns also its log.
pub(crate) fn start(
    folder: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut command = plimsoll(folder, arguments, variables);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
    let log = BufReader::new(child.stderr.take().expect("its log")).lines();
    (child, log)
}

/// Waits for a line of the log that contains this.
pub(crate) async fn wait_for(log: &mut Lines<BufReader<ChildStderr>>, what: &str) -> String {
    let reading = async {
        let mut lines = Vec::new();
        while let Some(line) = log.next_line().await.expect("text") {
            if line.contains(what) {
                return line;
            }
            lines.push(line);
        }
        panic!("it ended without a line with {what:?}: {lines:#?}");
    };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("in vain: {what:?}"))
}
