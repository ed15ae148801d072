//! The database server ends, in every way that it can, and comes back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Scene, Struck};
use crate::faults::error::FaultError;
use crate::faults::kind::Kind;
use crate::faults::schedule::Fault;

/// A fast or immediate shutdown, under load on a slow disk.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

const POLL_EVERY: Duration = Duration::from_millis(5);

/// The steps in which the disk is filled up: quickly at first, then to the last page.
const FILL_BYTES: [usize; 2] = [1024 * 1024, 4096];

impl Scene<'_> {
    pub(super) async fn kill_postmaster(self, fault: &Fault) -> Result<Struck, FaultError> {
        let _only = self.stage.databases.server.lock().await;
        self.stage.databases.signal_server(Signal::KILL);
        self.stage.pause(fault.lasts).await;
        self.started_again().await
    }

    /// It waits for all sessions and lets nobody in meanwhile. The service closes none of its own accord,
    /// so that after a time it is told to be fast.
    pub(super) async fn restart_smart(self, fault: &Fault) -> Result<Struck, FaultError> {
        let databases = &self.stage.databases;
        let _only = databases.server.lock().await;
        databases.signal_server(Signal::TERM);
        self.stage.pause(fault.lasts).await;
        databases.signal_server(Signal::INT);
        self.ended().await?;
        self.started_again().await
    }

    pub(super) async fn restart(self, fault: &Fault) -> Result<Struck, FaultError> {
        let fast = fault.kind == Kind::RestartFast;
        let _only = self.stage.databases.server.lock().await;
        self.stage.databases.signal_server(if fast { Signal::INT } else { Signal::QUIT });
        self.ended().await?;
        self.stage.pause(fault.lasts).await;
        self.started_again().await
    }

    /// The server takes it for a crash: it ends all sessions, and recovers.
    pub(super) async fn kill_backend(self, fault: &Fault) -> Result<Struck, FaultError> {
        let databases = &self.stage.databases;
        let _only = databases.server.lock().await;
        let mut witness = databases.admin().await?;
        let Some(pid) = self.draw_backend(&mut witness, fault).await? else {
            return Ok(Struck::nothing_broken("no session"));
        };
        super::sessions::signal(pid, Signal::KILL);
        // Until the crash has reached everybody, new sessions may still be let in.
        while sqlx::query("SELECT 1").execute(&mut witness).await.is_ok() {
            sleep(POLL_EVERY).await;
        }
        databases.until_ready().await?;
        Ok(Struck::back_now("one session", self.load))
    }

    pub(super) async fn fill_disk(self, fault: &Fault) -> Result<Struck, FaultError> {
        let databases = &self.stage.databases;
        let _only = databases.server.lock().await;
        let Some(disk) = self.stage.disk() else {
            return Ok(Struck::nothing_broken("no small disk"));
        };
        let filler = disk.join("filler");
        let path = filler.clone();
        let filled = spawn_blocking(move || fill(&path)).await;
        filled.map_err(|error| FaultError::new("fill the disk", error))??;
        self.stage.pause(fault.lasts).await;
        fs::remove_file(filler)?;
        let survived = databases.primary().is_running();
        databases.until_ready().await?;
        let what = if survived { "the server runs on" } else { "the server has ended" };
        Ok(Struck::back_now(what, self.load))
    }

    pub(super) async fn fail_over(self, fault: &Fault) -> Result<Struck, FaultError> {
        let databases = &self.stage.databases;
        let _only = databases.server.lock().await;
        databases.fail_over(self.stage.pause(fault.lasts)).await?;
        Ok(Struck::back_now("the primary, for good", self.load))
    }

    /// After a failover, so that there can be another one.
    pub(super) async fn make_standby(self) -> Result<(), FaultError> {
        let _only = self.stage.databases.server.lock().await;
        self.stage.databases.rebuild_standby().await
    }

    async fn ended(self) -> Result<(), FaultError> {
        match self.stage.databases.server_ends_within(ENDED_WITHIN).await {
            true => Ok(()),
            false => Err(FaultError::new("stop the server", "it still runs after 60 s")),
        }
    }

    async fn started_again(self) -> Result<Struck, FaultError> {
        self.stage.databases.until_ready().await?;
        Ok(Struck::back_now("the server", self.load))
    }
}

/// Writes until there is no room.
fn fill(path: &Path) -> io::Result<()> {
    let mut filler = File::create(path)?;
    for bytes in FILL_BYTES {
        let block = vec![0; bytes];
        loop {
            match filler.write(&block) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
