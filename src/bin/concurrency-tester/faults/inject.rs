//! Makes the faults happen.

mod instances;
mod network;
mod others;
mod servers;
mod sessions;

use super::error::FaultError;
use super::kind::{Kind, Network};
use super::schedule::Fault;
use super::stage::{INSTANCES, Stage};
use crate::load::Load;

/// What a fault was, when it is over.
#[derive(Debug, Clone)]
pub(crate) struct Struck {
    /// What it hit, in words.
    pub(crate) target: String,
    /// When the service could work again, on the clock of the load. `None` if it could all the time.
    pub(crate) back: Option<u64>,
    /// What the service itself did wrong, such as not to end.
    pub(crate) wrong: Option<String>,
}

impl Struck {
    fn nothing_broken(target: impl Into<String>) -> Self {
        Self { target: target.into(), back: None, wrong: None }
    }

    fn back_now(target: impl Into<String>, load: &Load) -> Self {
        Self { target: target.into(), back: Some(load.now()), wrong: None }
    }
}

/// Where a fault happens.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) load: &'a Load,
}

impl Scene<'_> {
    /// Returns when the fault is over, and the service can work again.
    pub(crate) async fn strike(self, fault: &Fault) -> Result<Struck, FaultError> {
        match fault.kind {
            Kind::KillInstance => self.kill_instance(fault).await,
            Kind::TerminateInstance => self.terminate_instance(fault).await,
            Kind::StopInstance => self.stop_instance(fault).await,
            Kind::FreezeInstance => self.freeze_instance(fault).await,
            Kind::KillPostmaster => self.kill_postmaster(fault).await,
            Kind::RestartSmart => self.restart_smart(fault).await,
            Kind::RestartFast | Kind::RestartImmediate => self.restart(fault).await,
            Kind::KillBackend => self.kill_backend(fault).await,
            Kind::DiskFull => self.fill_disk(fault).await,
            Kind::Failover => self.fail_over(fault).await,
            Kind::TerminateBackend | Kind::TerminateBackends => {
                self.tell_backends(fault, "pg_terminate_backend").await
            }
            Kind::CancelBackend | Kind::CancelBackends => {
                self.tell_backends(fault, "pg_cancel_backend").await
            }
            Kind::StopBackend | Kind::FreezeBackend => self.stop_backend(fault).await,
            Kind::ConnectionsExhausted => self.exhaust_connections(fault).await,
            Kind::ForeignLock => self.lock_users(fault).await,
            Kind::ForeignSnapshot => self.hold_snapshot(fault).await,
            Kind::ClockBack => self.set_clock_back(fault).await,
            Kind::Database(network) => {
                let proxy = self.stage.databases.proxy();
                Ok(self.disturb(proxy, network, fault, "the database").await)
            }
            Kind::Client(network) => {
                let number = self.draw_instance(fault);
                let proxy = &self.stage.clients[number];
                let target = format!("clients of instance {number}");
                Ok(self.disturb(proxy, network, fault, &target).await)
            }
        }
    }

    /// Once the service works again: puts the stage into the state that the next fault expects.
    pub(crate) async fn restore(self, fault: &Fault) -> Result<(), FaultError> {
        match fault.kind {
            Kind::Failover => self.make_standby().await,
            _ => Ok(()),
        }
    }

    fn draw_instance(self, fault: &Fault) -> usize {
        nth(fault.draw, INSTANCES)
    }
}

/// One of so many, by the draw of a fault.
fn nth(draw: u32, count: usize) -> usize {
    usize::try_from(draw).unwrap_or(0) % count.max(1)
}

/// A part of the draw that does not depend on the lowest bits.
fn high(draw: u32) -> u32 {
    draw >> 8
}

impl Network {
    /// Whether it is over as soon as it has struck.
    fn cuts(self) -> bool {
        matches!(self, Self::CutBefore | Self::CutAfter | Self::HalfPacket)
    }
}
