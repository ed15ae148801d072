//! Runs the real executable as a separate process, for tests of per-process properties such as its
//! memory and its limit of open files.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::cluster::{fresh_folder, shared};

/// A running service that listens. Dropping this kills it.
pub(crate) struct ServiceProcess {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) database: PgConnectOptions,
    log: Arc<Mutex<String>>,
}

impl ServiceProcess {
    /// Starts it on a new database. `limits` is a shell command that sets the process limits.
    pub(crate) async fn start(limits: &str) -> Self {
        Self::start_with(limits, &[]).await
    }

    /// As [`Self::start`], with these environment variables.
    pub(crate) async fn start_with(limits: &str, variables: &[(&str, &str)]) -> Self {
        let (service, mut lines) = Self::start_logging(limits, variables).await;
        let log = Arc::clone(&service.log);
        // To the end, so that a full pipe never blocks the service.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&log, &line);
            }
        });
        service
    }

    /// As [`Self::start_with`]. Returns its log as well, from the line after the one that says that it
    /// listens.
    pub(crate) async fn start_logging(
        limits: &str,
        variables: &[(&str, &str)],
    ) -> (Self, Lines<BufReader<ChildStderr>>) {
        let database = shared().await.fresh_database().await;
        let url = database.to_url_lossy().to_string();
        let executable = env!("CARGO_BIN_EXE_plimsoll");
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limits} && exec \"$0\""), executable])
            // An empty folder, and only these variables, so that no `.env` has an effect.
            .current_dir(fresh_folder("process"))
            .env_clear()
            .envs([("DATABASE_URL", &*url), ("PORT", "0"), ("WORKERS", "2")])
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let listening = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                keep(&log, &line);
                if let Some((_, url)) = line.split_once("listening on http") {
                    let address = url.split_once("://").expect("an address").1;
                    let end = address.find('"').unwrap_or(address.len());
                    return address[..end].parse().expect("an address");
                }
            }
            panic!("it ended before it listened");
        };
        let address = timeout(Duration::from_secs(60), listening).await.expect("it starts");
        (Self { child, address, database, log }, lines)
    }

    /// What it has logged so far, if it was started with [`Self::start_with`].
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, by its name after a hyphen.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([name, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until it has ended without an error.
    pub(crate) async fn ended(&mut self) {
        let status = self.child.wait().await.expect("it was started");
        assert!(status.success(), "{status}");
    }

    /// The peak of its memory so far, in kB.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_kb_max(&self) -> u64 {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

fn keep(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().unwrap();
    log.push_str(line);
    log.push('\n');
}
