//! The real executable as a process of its own: for what a process has only once, such as its memory
//! and its limit of open files.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use sqlx::ConnectOptions;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cluster::{fresh_folder, shared};

/// A service that listens. It is killed when this is dropped.
pub(crate) struct ServiceProcess {
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "kills it when it is dropped")
    )]
    child: Child,
    pub(crate) address: SocketAddr,
}

impl ServiceProcess {
    /// On a database of its own. `limits` is a shell command that sets the limits of the process.
    pub(crate) async fn start(limits: &str) -> Self {
        let database = shared().await.fresh_database().await.to_url_lossy().to_string();
        let executable = env!("CARGO_BIN_EXE_plimsoll");
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limits} && exec \"$0\""), executable])
            // Empty, and with nothing but these variables, so that no `.env` has a say.
            .current_dir(fresh_folder("process"))
            .env_clear()
            .envs([("DATABASE_URL", &*database), ("PORT", "0"), ("WORKERS", "2")])
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it runs");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let listening = async {
            while let Some(line) = log.next_line().await.expect("text") {
                if let Some((_, address)) = line.split_once("listening on http://") {
                    // Read on, so that the log never stalls the service.
                    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
                    return address.parse().expect("an address");
                }
            }
            panic!("it ended before it listened");
        };
        let address = timeout(Duration::from_secs(60), listening).await.expect("it starts");
        Self { child, address }
    }

    /// The most memory that it has had so far, in kB.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_kb_max(&self) -> u64 {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
