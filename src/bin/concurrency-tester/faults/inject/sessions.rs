//! Single sessions of the service are ended, cancelled or stopped, by others and by the server.

use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgConnection;

use super::{Scene, Struck, nth};
use crate::faults::error::FaultError;
use crate::faults::kind::Kind;
use crate::faults::schedule::Fault;

const SESSIONS: &str = "SELECT pid FROM pg_stat_activity \
     WHERE application_name = 'plimsoll' AND backend_type = 'client backend' ORDER BY pid";

impl Scene<'_> {
    /// Calls one of the server's functions for one of the sessions, or for all.
    pub(super) async fn tell_backends(
        self,
        fault: &Fault,
        function: &str,
    ) -> Result<Struck, FaultError> {
        let mut admin = self.stage.databases.admin().await?;
        let mut pids = backends(&mut admin).await?;
        if matches!(fault.kind, Kind::TerminateBackend | Kind::CancelBackend) && !pids.is_empty() {
            pids = vec![pids[nth(fault.draw, pids.len())]];
        }
        sqlx::query(&format!("SELECT {function}(pid) FROM unnest($1) AS pid"))
            .bind(&pids)
            .execute(&mut admin)
            .await?;
        Ok(Struck::back_now(sessions(pids.len()), self.load))
    }

    /// It keeps its locks meanwhile.
    pub(super) async fn stop_backend(self, fault: &Fault) -> Result<Struck, FaultError> {
        let mut admin = self.stage.databases.admin().await?;
        let Some(pid) = self.draw_backend(&mut admin, fault).await? else {
            return Ok(Struck::nothing_broken("no session"));
        };
        // Only now: a stopped backend may hold what a new one of the administrator waits for.
        drop(admin);
        signal(pid, Signal::STOP);
        self.stage.pause(fault.lasts).await;
        signal(pid, Signal::CONT);
        Ok(Struck::back_now("one session", self.load))
    }

    pub(super) async fn draw_backend(
        self,
        admin: &mut PgConnection,
        fault: &Fault,
    ) -> Result<Option<i32>, FaultError> {
        let pids = backends(admin).await?;
        Ok(pids.get(nth(fault.draw, pids.len())).copied())
    }
}

/// Of the service.
pub(super) async fn backends(admin: &mut PgConnection) -> Result<Vec<i32>, FaultError> {
    Ok(sqlx::query_scalar(SESSIONS).fetch_all(admin).await?)
}

/// A session may have just ended.
pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

fn sessions(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} session{plural}")
}
