//! The engine of the lane of operations: carries between its core and its session.

use sqlx::PgConnection;
use tokio::time::{Instant, timeout};

use super::core::{Answer, Core, Request, Response};
use super::transaction::{Batch, Locking};
use crate::ledger::{Operation, Timestamp, UserId};
use crate::queue::lane::{Caller, Engine, Step, Time};
use crate::store::error::Failure;
use crate::store::own_session::{self, OwnSession};
use crate::store::session::Connector;
use crate::store::{held, hold_expiry};

/// Decides on operations in its [`Core`], and sends them on a session of its own.
pub(super) struct OperationEngine {
    core: Core<Caller<Answer>>,
    session: OwnSession,
    locking: Locking,
}

impl Engine for OperationEngine {
    type Work = Operation;
    type Answer = Answer;

    fn new(connector: Connector, parked_max: usize) -> Self {
        let session = OwnSession::new(connector, own_session::OF_BATCHES);
        Self { core: Core::new(parked_max), session, locking: Locking::default() }
    }

    fn arrive(&mut self, operation: Operation, caller: Caller<Answer>) {
        self.core.arrive(operation, caller);
    }

    fn room(&self) -> usize {
        self.core.room()
    }

    fn arrived(&self) -> usize {
        self.core.arrived()
    }

    fn stop(&mut self) {
        self.core.stop();
    }

    fn next(&mut self, now: Time) -> Step {
        self.core.next(now)
    }

    async fn serve(&mut self, started: Instant) {
        let Some(request) = self.core.request() else { return };
        let result = send(&mut self.session, &mut self.locking, request).await;
        self.core.on(started.elapsed(), result);
    }

    fn take_answers(&mut self) -> impl Iterator<Item = (Caller<Answer>, Answer)> {
        self.core.take_answers()
    }

    fn take_retries(&mut self) -> u64 {
        self.core.take_retries()
    }
}

/// Sends a request and returns the response. Each step is bounded in time: the check of the session,
/// the opening of a new one, and the request itself.
async fn send(
    own: &mut OwnSession,
    locking: &mut Locking,
    request: Request<'_>,
) -> Result<Response, Failure> {
    let mut session = own.take().await?;
    let limits = own.limits();
    let mut is_committing = false;
    let sending = async {
        let connection = session.connection();
        match request {
            Request::Batch { operations, is_patient } => {
                let lock_wait = is_patient.then(|| limits.patient_lock_wait());
                let is_committing = &mut is_committing;
                let mut batch = Batch { operations, lock_wait, locking, is_committing };
                batch.run(connection).await.map(Response::Batch)
            }
            Request::ReleaseHolds { users, at } => release_holds(connection, users, at).await,
            Request::Probe(users) => {
                let rows = held::probe(connection, users).await;
                rows.map(Response::Probe).map_err(Failure::at_commit)
            }
        }
    };
    let result = timeout(limits.answer, sending).await;
    let (response, spent) = session.after(result);
    own.give_back(spent).await;
    match response {
        // The time was over before the commit of a batch was sent, and the session is closed. A commit
        // that only releases holds says nothing about the operations.
        Err(Failure::Unknown(cause)) if !is_committing => Err(Failure::NotSent(cause)),
        response => response,
    }
}

async fn release_holds(
    connection: &mut PgConnection,
    users: &[UserId],
    at: Timestamp,
) -> Result<Response, Failure> {
    for user in users {
        hold_expiry::release(connection, *user, Some(at)).await?;
    }
    Ok(Response::ReleaseHolds)
}
