//! The environment of a round: a database or a pair of them, two instances of the real service, and a proxy
//! on each way.

pub(super) mod clock;
pub(super) mod database;
pub(super) mod folder;
pub(super) mod instance;
mod small_disk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::error::FaultError;
use super::kind::{Kind, Sort};
use super::proxy::Proxy;
use crate::target::Target;
use clock::Clocks;
use database::Databases;
use instance::Instance;
use small_disk::SmallDisk;

/// How many instances share the database.
pub(crate) const INSTANCES: usize = 2;

/// All that runs in one round. [`Stage::end`] ends it; if it is dropped instead, the watchdog does.
pub(crate) struct Stage {
    pub(crate) databases: Databases,
    pub(crate) instances: Vec<Mutex<Instance>>,
    /// Between the clients and each instance.
    pub(crate) clients: Vec<Proxy>,
    pub(crate) clocks: Option<Clocks>,
    disk: Option<SmallDisk>,
    over: watch::Sender<bool>,
}

impl Stage {
    /// Starts everything. `folder` is new.
    pub(crate) async fn start(sort: Sort, folder: PathBuf) -> Result<Self, FaultError> {
        let disk = match sort {
            Sort::SmallDisk => Some(SmallDisk::mount(&folder.join("a"))?),
            _ => None,
        };
        let clocks = match sort {
            Sort::Clock => Some(Clocks::prepare(&folder)?),
            _ => None,
        };
        let databases = Databases::start(sort, &folder, clocks.as_ref()).await?;
        let mut instances = Vec::new();
        let mut clients = Vec::new();
        for number in 0..INSTANCES {
            let environment = clocks.as_ref().map(Clocks::of_the_service).unwrap_or_default();
            let url = databases.url();
            let instance = Instance::start(number, &folder, &url, environment).await?;
            clients.push(Proxy::start(Some(instance.upstream())).await?);
            instances.push(Mutex::new(instance));
        }
        let over = watch::Sender::new(false);
        Ok(Self { databases, instances, clients, clocks, disk, over })
    }

    /// Where the clients send their requests.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let target = |proxy: &Proxy| {
            let address = proxy.address().to_string();
            Target { authority: address.clone(), address, base: String::new() }
        };
        self.clients.iter().map(target).collect()
    }

    /// The mount point of the small disk.
    pub(crate) fn disk(&self) -> Option<&Path> {
        self.disk.as_ref().map(SmallDisk::path)
    }

    /// Sleeps, but not longer than until the round is over.
    pub(crate) async fn pause(&self, duration: Duration) {
        let mut over = self.over.subscribe();
        tokio::select! {
            () = sleep(duration) => {}
            // An error means that the stage is gone, which cannot be while it is borrowed.
            _ = over.wait_for(|over| *over) => {}
        }
    }

    /// Ends all pauses: what still lasts is undone.
    pub(crate) fn call_it_over(&self) {
        self.over.send_replace(true);
    }

    /// Ends all processes.
    pub(crate) async fn end(self) -> Result<(), FaultError> {
        for instance in self.instances {
            instance.into_inner().kill().await?;
        }
        self.databases.stop().await
    }
}

/// Why a kind of fault cannot be made on this machine.
pub(crate) fn obstacle(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::DiskFull => small_disk::obstacle(),
        Kind::ClockBack => clock::obstacle(),
        _ => None,
    }
}
