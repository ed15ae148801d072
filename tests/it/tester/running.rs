//! Runs the real executable and captures its output.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::faulty_service::FaultyService;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_concurrency-tester");

/// No test here needs more than a few seconds, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A new file name for each caller, in cargo's temporary folder for tests.
pub(super) fn scratch_file(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = format!("tester-{}-{number}-{name}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(file)
}

/// The executable with its arguments.
pub(super) struct Tester {
    command: Command,
    log: PathBuf,
}

impl Tester {
    pub(super) fn bare() -> Self {
        Self::from(Command::new(EXECUTABLE))
    }

    pub(super) fn at(url: &str) -> Self {
        Self::bare().args(&["--url", url])
    }

    pub(super) fn against(service: &FaultyService) -> Self {
        Self::at(&service.url)
    }

    /// Runs it through a shell that sets the soft and hard limit of open files.
    #[cfg(target_os = "linux")]
    pub(super) fn with_open_files(limit: u32, url: &str) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, EXECUTABLE, "--url", url]);
        Self::from(command)
    }

    pub(super) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub(super) fn log(mut self, file: &Path) -> Self {
        self.log = file.to_owned();
        self
    }

    /// Runs it in this folder, with its default log.
    pub(super) fn with_default_log_in(mut self, folder: &str) -> Self {
        self.command.current_dir(folder);
        self.log = PathBuf::new();
        self
    }

    pub(super) fn start(mut self) -> Running {
        if !self.log.as_os_str().is_empty() {
            self.command.arg("--log").arg(&self.log);
        }
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.kill_on_drop(true).spawn().expect("the executable starts");
        Running { child, log: self.log }
    }

    pub(super) async fn run(self) -> TesterOutput {
        self.start().wait().await
    }
}

impl From<Command> for Tester {
    fn from(command: Command) -> Self {
        Self { command, log: scratch_file("responses.log") }
    }
}

pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Its standard error from here on, which its output then lacks.
    pub(super) fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("it was not taken before")
    }

    pub(super) async fn wait(self) -> TesterOutput {
        let output = timeout(PATIENCE, self.child.wait_with_output())
            .await
            .expect("the tester is bounded in time")
            .expect("its output can be read");
        TesterOutput {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            log: self.log,
        }
    }

    /// Sends the signal of Ctrl-C.
    #[cfg(unix)]
    pub(super) async fn interrupt(self) -> TesterOutput {
        let id = self.child.id().expect("it is still running").to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await.unwrap();
        assert!(sent.success());
        self.wait().await
    }
}

/// The exit code, output and log of the executable.
#[derive(Debug)]
pub(super) struct TesterOutput {
    code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) log: PathBuf,
}

impl TesterOutput {
    #[track_caller]
    pub(super) fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self}");
    }

    #[track_caller]
    pub(super) fn assert_stdout_starts(&self, with: &str) {
        assert!(self.stdout.starts_with(with), "expected: {with}\n{self}");
    }

    /// The first line is a verdict of FAIL with these reasons.
    #[track_caller]
    pub(super) fn assert_fails_with(&self, reasons: &[&str]) {
        self.assert_code(1);
        self.assert_stdout_starts("FAIL: self: ");
        let verdict = self.stdout.lines().next().unwrap_or_default();
        for reason in reasons {
            assert!(verdict.contains(reason), "expected: {reason}\n{self}");
        }
    }

    /// There is no verdict, and standard error has this message.
    #[track_caller]
    pub(super) fn assert_refused_to_run(&self, code: i32, because: &str) {
        self.assert_code(code);
        assert!(self.stdout.is_empty(), "{self}");
        assert!(self.stderr.contains(because), "expected: {because}\n{self}");
    }
}

impl std::fmt::Display for TesterOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, .. } = self;
        write!(f, "exited with {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}
