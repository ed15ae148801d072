//! One instance of the real service, as a process.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::faults::error::FaultError;
use crate::faults::proxy::Upstream;

/// A start waits for a database that is away, which may be the next fault.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// After SIGTERM: the delay, the drain time, and some more.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

/// A process that listens. Dropping it kills it.
pub(crate) struct Instance {
    command: StartCommand,
    child: Child,
    address: SocketAddr,
}

/// What is needed to start it again.
struct StartCommand {
    folder: PathBuf,
    name: String,
    program: PathBuf,
    environment: Vec<(String, String)>,
}

/// The executable beside this one.
///
/// # Errors
/// It is not there.
pub(crate) fn program() -> Result<PathBuf, FaultError> {
    let tester = std::env::current_exe()?;
    let program = tester.with_file_name("plimsoll");
    match program.is_file() {
        true => Ok(program),
        false => Err(FaultError::new(
            "find the service",
            format!("there is no {}: build it with `cargo build --bins`", program.display()),
        )),
    }
}

impl Instance {
    /// Returns when it listens.
    pub(super) async fn start(
        number: usize,
        folder: &Path,
        database_url: &str,
        mut environment: Vec<(String, String)>,
    ) -> Result<Self, FaultError> {
        environment.push(("DATABASE_URL".to_owned(), database_url.to_owned()));
        environment.push(("PORT".to_owned(), "0".to_owned()));
        let name = format!("instance-{number}");
        let command =
            StartCommand { folder: folder.to_owned(), name, program: program()?, environment };
        let (child, address) = command.run().await?;
        Ok(Self { command, child, address })
    }

    pub(crate) fn upstream(&self) -> Upstream {
        Upstream::Tcp(self.address)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It was not waited for, so its id is its own. An error means that it has just ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) -> Result<(), FaultError> {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM. False if it does not end in time; then it is killed.
    pub(crate) async fn terminate(&mut self) -> Result<bool, FaultError> {
        self.signal(Signal::TERM);
        let ended = timeout(ENDED_WITHIN, self.child.wait()).await.is_ok();
        if !ended {
            self.kill().await?;
        }
        Ok(ended)
    }

    /// After it has ended. It has another port then.
    pub(crate) async fn start_again(&mut self) -> Result<(), FaultError> {
        (self.child, self.address) = self.command.run().await?;
        Ok(())
    }
}

impl StartCommand {
    /// Repeated in bounds: the database may be away for longer than a start waits for it.
    async fn run(&self) -> Result<(Child, SocketAddr), FaultError> {
        let give_up = Instant::now() + STARTED_WITHIN;
        loop {
            let (child, listening) = self.spawn()?;
            match timeout(STARTED_WITHIN, listening).await {
                Ok(Ok(address)) => return Ok((child, address)),
                // It has ended.
                Ok(Err(_)) if Instant::now() < give_up => sleep(Duration::from_millis(50)).await,
                _ => {
                    let why = format!("it does not listen; its log:\n{}", self.end_of_log());
                    return Err(FaultError::new("start the service", why));
                }
            }
        }
    }

    /// In the folder of the run, where there is no `.env`, and by which the watchdog knows it.
    fn spawn(&self) -> Result<(Child, oneshot::Receiver<SocketAddr>), FaultError> {
        let mut child = Command::new(&self.program)
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        fs::write(self.folder.join(format!("{}.pid", self.name)), format!("{pid}\n"))?;
        let (listens, listening) = oneshot::channel();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_log(stderr, self.log(), listens));
        }
        Ok((child, listening))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

/// To the end, so that a full pipe never blocks the service.
async fn keep_log(stderr: ChildStderr, path: PathBuf, listens: oneshot::Sender<SocketAddr>) {
    let mut listens = Some(listens);
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(mut log) = OpenOptions::new().create(true).append(true).open(&path) {
            // A log that cannot be written is no reason not to go on.
            let _ = writeln!(log, "{line}");
        }
        let address = line.split_once("listening on http://").and_then(|(_, url)| {
            url.split(|c: char| c.is_whitespace() || c == '"').next()?.parse().ok()
        });
        if let Some(address) = address
            && let Some(listens) = listens.take()
        {
            // The receiver is gone if the start was given up.
            let _ = listens.send(address);
        }
    }
}
