//! Runs the real concurrency tester against small services that are correct or broken in one known
//! way.

mod database;
mod faults;
mod faulty_service;
mod ledger;
mod not_run;
mod operations;
mod output;
mod reports;
mod running;
mod verdicts;
mod witness;

use faulty_service::{Behaviour, FaultyService};
use running::{Tester, TesterOutput};

/// 100 withdrawals of 2 from a balance of 100, so that half are accepted.
const BURST: &[&str] = &["--requests", "100", "--balance", "100", "--approach", "self"];

/// Distinguishes the changes of [`BURST`] from those that set the balance.
fn is_of_the_burst(amount: i64) -> bool {
    amount == -2
}

async fn test(behaviour: Behaviour) -> TesterOutput {
    let service = FaultyService::start(100, behaviour).await;
    Tester::against(&service).args(BURST).run().await
}
