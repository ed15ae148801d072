//! An instance is killed, terminated, stopped for a moment or for good.

use rustix::process::Signal;

use super::{Scene, Struck};
use crate::faults::error::FaultError;
use crate::faults::schedule::Fault;
use crate::faults::stage::instance::Instance;

impl Scene<'_> {
    pub(super) async fn kill_instance(self, fault: &Fault) -> Result<Struck, FaultError> {
        let number = self.draw_instance(fault);
        let mut instance = self.stage.instances[number].lock().await;
        instance.kill().await?;
        self.start_again(number, &mut instance).await
    }

    pub(super) async fn terminate_instance(self, fault: &Fault) -> Result<Struck, FaultError> {
        let number = self.draw_instance(fault);
        let mut instance = self.stage.instances[number].lock().await;
        let ended = instance.terminate().await?;
        let wrong = (!ended).then(|| format!("instance {number} does not end after SIGTERM"));
        Ok(Struck { wrong, ..self.start_again(number, &mut instance).await? })
    }

    pub(super) async fn stop_instance(self, fault: &Fault) -> Result<Struck, FaultError> {
        let number = self.draw_instance(fault);
        let instance = self.stage.instances[number].lock().await;
        instance.signal(Signal::STOP);
        self.stage.pause(fault.lasts).await;
        instance.signal(Signal::CONT);
        Ok(Struck::back_now(name(number), self.load))
    }

    /// Its sessions stay open meanwhile, and so do their locks.
    pub(super) async fn freeze_instance(self, fault: &Fault) -> Result<Struck, FaultError> {
        let number = self.draw_instance(fault);
        let mut instance = self.stage.instances[number].lock().await;
        instance.signal(Signal::STOP);
        self.stage.pause(fault.lasts).await;
        instance.kill().await?;
        self.start_again(number, &mut instance).await
    }

    async fn start_again(
        self,
        number: usize,
        instance: &mut Instance,
    ) -> Result<Struck, FaultError> {
        instance.start_again().await?;
        self.stage.clients[number].lead_to(instance.upstream());
        Ok(Struck::back_now(name(number), self.load))
    }
}

fn name(number: usize) -> String {
    format!("instance {number}")
}
