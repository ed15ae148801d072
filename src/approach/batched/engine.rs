//! The engine of a lane: carries between its core and its session.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, timeout};

use super::core::{Answer, Core, Locked, LockedReply, Request, Response};
use super::fold;
use super::statement::{self, Part};
use crate::approach::guarded_update;
use crate::ledger::{Change, UserId};
use crate::queue::lane::{Caller, Engine, Step, Time};
use crate::store::error::Failure;
use crate::store::own_session::{self, OwnSession};
use crate::store::session::Connector;
use crate::store::{held, hold_expiry};

/// Decides on changes in its [`Core`], and sends them on a session of its own.
pub(super) struct ChangeEngine {
    core: Core<Caller<Answer>>,
    session: OwnSession,
}

impl Engine for ChangeEngine {
    type Work = Change;
    type Answer = Answer;

    fn new(connector: Connector, parked_max: usize) -> Self {
        let session = OwnSession::new(connector, own_session::OF_BATCHES);
        Self { core: Core::new(parked_max), session }
    }

    fn arrive(&mut self, change: Change, caller: Caller<Answer>) {
        self.core.arrive(change, caller);
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
        let result = send(&mut self.session, request).await;
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
async fn send(own: &mut OwnSession, request: Request<'_>) -> Result<Response, Failure> {
    let mut session = own.take().await?;
    let limits = own.limits();
    let sending = respond(session.connection(), request, limits.patient_lock_wait());
    let result = timeout(limits.answer, sending).await;
    let (response, spent) = session.after(result);
    own.give_back(spent).await;
    response
}

async fn respond(
    connection: &mut PgConnection,
    request: Request<'_>,
    lock_wait: Duration,
) -> Result<Response, Failure> {
    let response = match request {
        Request::Alone(change) => {
            guarded_update::update(connection, change).await.map(Response::Alone)
        }
        Request::Batch(parts) => statement::send(connection, &parts).await.map(Response::Batch),
        Request::Locked { user, changes } => {
            locked(connection, user, changes, lock_wait).await.map(Response::Locked)
        }
        Request::ReleaseHolds(user) => {
            hold_expiry::release(connection, user, None).await?;
            Ok(Response::ReleaseHolds)
        }
        Request::Probe(users) => held::probe(connection, users).await.map(Response::Probe),
    };
    response.map_err(Failure::at_commit)
}

/// Locks one user's row, decides its changes one by one, and commits. Cannot lose a race.
async fn locked(
    connection: &mut PgConnection,
    user: UserId,
    changes: Vec<&Change>,
    wait: Duration,
) -> Result<LockedReply, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let Some((funds, version)) = statement::lock(&mut transaction, user, wait).await? else {
        transaction.rollback().await?;
        return Ok(LockedReply::NoUser);
    };
    let plan = fold::each(funds, version, changes.iter().copied());
    if plan.refuses() && statement::has_expired_holds(&mut transaction, user).await? {
        transaction.rollback().await?;
        return Ok(LockedReply::HoldsExpired);
    }
    let mut replies = Vec::new();
    let part = Part { user, plan: &plan, changes };
    // Keys are looked up even if there is nothing to write.
    if plan.writes(&part.changes) || part.keys().next().is_some() {
        replies = statement::send(&mut transaction, &[part]).await?;
    }
    transaction.commit().await?;
    Ok(LockedReply::Decided(Locked { before: funds.balance, plan, replies }))
}
