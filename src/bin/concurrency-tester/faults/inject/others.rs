//! What others do: they take connections, lock rows, hold a snapshot, set the clock.

use std::time::Duration;

use plimsoll::cluster::SERVICE_DATABASE;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::Instant;

use super::sessions::backends;
use super::{Scene, Struck, high, nth};
use crate::faults::error::FaultError;
use crate::faults::schedule::Fault;
use crate::faults::stage::clock::Clock;

/// How often connections that became free are taken as well.
const TAKE_EVERY: Duration = Duration::from_millis(10);

/// How far the clock is set back, in seconds.
const BACK_SECONDS: [i64; 4] = [-1, -7, -60, -600];

/// Users whose rows somebody else holds.
const LOCKED: usize = 3;

impl Scene<'_> {
    /// Takes every connection, ends the sessions of the service, and takes theirs as well.
    pub(super) async fn exhaust_connections(self, fault: &Fault) -> Result<Struck, FaultError> {
        let options = self.stage.databases.primary().connect_options(SERVICE_DATABASE);
        let options = options.application_name("faults").disable_statement_logging();
        let mut admin = self.stage.databases.admin().await?;
        let mut taken = Vec::new();
        let end = Instant::now() + fault.lasts;
        let mut ended = false;
        while Instant::now() < end {
            match options.connect().await {
                Ok(connection) => taken.push(connection),
                Err(_) if !ended => {
                    let pids = backends(&mut admin).await?;
                    sqlx::query("SELECT pg_terminate_backend(pid) FROM unnest($1) AS pid")
                        .bind(&pids)
                        .execute(&mut admin)
                        .await?;
                    ended = true;
                }
                Err(_) => self.stage.pause(TAKE_EVERY).await,
            }
        }
        let target = format!("{} connections taken", taken.len());
        drop(taken);
        Ok(Struck::back_now(target, self.load))
    }

    /// Some hot rows, all held by one foreign transaction.
    pub(super) async fn lock_users(self, fault: &Fault) -> Result<Struck, FaultError> {
        let users = self.load.users();
        let first = nth(fault.draw, users.len());
        let users: Vec<i64> = users.iter().cycle().skip(first).take(LOCKED).copied().collect();
        let mut foreign = self.stage.databases.admin().await?;
        let mut transaction = foreign.begin().await?;
        // A stopped session may hold one of them for longer than this one should wait.
        sqlx::query("SET LOCAL lock_timeout = '3s'").execute(&mut *transaction).await?;
        // In order of id, as everybody does.
        sqlx::query("SELECT FROM users WHERE id = ANY($1) ORDER BY id FOR UPDATE")
            .bind(&users)
            .execute(&mut *transaction)
            .await?;
        self.stage.pause(fault.lasts).await;
        // The server may have been restarted meanwhile.
        let _ = transaction.rollback().await;
        Ok(Struck::nothing_broken(format!("{} users", users.len())))
    }

    /// Until the end of the round, or of the server.
    pub(super) async fn hold_snapshot(self, fault: &Fault) -> Result<Struck, FaultError> {
        let since = Instant::now();
        let mut foreign = self.stage.databases.admin().await?;
        let mut snapshot = foreign.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        sqlx::query("SELECT count(*) FROM users").execute(&mut *snapshot).await?;
        self.stage.pause(fault.lasts).await;
        let held = is_alive(&mut snapshot).await;
        let end = if held { "to the end" } else { "until the server ended it" };
        Ok(Struck::nothing_broken(format!("{} s, {end}", since.elapsed().as_secs())))
    }

    /// Of the server, of the instances, or of both; back, and later forward again.
    pub(super) async fn set_clock_back(self, fault: &Fault) -> Result<Struck, FaultError> {
        let Some(clocks) = &self.stage.clocks else {
            return Ok(Struck::nothing_broken("no clock"));
        };
        let seconds = BACK_SECONDS[nth(high(fault.draw), BACK_SECONDS.len())];
        let (whose, name): (&[Clock], _) = match fault.draw % 3 {
            0 => (&[Clock::Database], "the database"),
            1 => (&[Clock::Service], "the instances"),
            _ => (&[Clock::Database, Clock::Service], "all"),
        };
        for clock in whose {
            clocks.set(*clock, seconds)?;
        }
        self.stage.pause(fault.lasts).await;
        for clock in whose {
            clocks.set(*clock, 0)?;
        }
        Ok(Struck::nothing_broken(format!("{name}, {seconds} s")))
    }
}

async fn is_alive(connection: &mut PgConnection) -> bool {
    sqlx::query("SELECT 1").execute(connection).await.is_ok()
}
