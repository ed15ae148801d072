//! One client of the load: draws a step, sends it, and goes on. Where the outcome of an operation with a
//! key is unknown, it asks again until it knows.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;

use super::counts::Category;
use super::draw::{Draws, HangUp, Step, Work, scramble};
use super::reads::Known;
use super::recorder::{Recorder, Sending};
use super::shared::Shared;
use super::stream;
use super::wires::{Heard, Wires};
use crate::contract::answer::{Said, read, read_each};
use crate::contract::operation::{Action, Operation};
use crate::contract::request::Sent;
use crate::findings::Kind;
use crate::reply::Reply;

/// How many answered operations a client remembers, to send one again.
const ANSWERED_MAX: usize = 32;

pub(super) struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    /// For what must not have an influence on the draws: instances, routes, pauses.
    pub(super) rng: Rng,
    pub(super) draws: Draws,
    pub(super) wires: Wires,
    pub(super) recorder: Recorder,
    /// The next request of this client.
    pub(super) requests: usize,
    pub(super) known: Known,
    /// Operations with a key that were answered for good.
    pub(super) answered: VecDeque<usize>,
}

impl Caller {
    pub(super) fn new(shared: Arc<Shared>, draws: Draws) -> Self {
        Self {
            number: draws.client,
            rng: Rng::with_seed(scramble(draws.seed) ^ scramble(draws.client as u64)),
            wires: Wires::to(shared.instances.len()),
            recorder: Recorder::default(),
            requests: 0,
            known: Known::default(),
            answered: VecDeque::new(),
            draws,
            shared,
        }
    }

    /// Until the load ends. Returns what was recorded.
    pub(super) async fn run(mut self) -> Recorder {
        while self.shared.may_go_on().await {
            // Connected first: an operation that was never sent is none.
            let Some(target) = self.wires.any(&self.shared, &mut self.rng).await else { break };
            let Some(step) = self.draws.step(&self.shared.cast, &self.shared.holds) else { break };
            self.make(step, target).await;
        }
        self.recorder
    }

    async fn make(&mut self, Step { work, hang_up }: Step, target: usize) {
        match work {
            Work::One(operation, category) => {
                let operation = self.recorder.operation(operation);
                let Some((said, wanted)) = self.attempt(operation, target, hang_up).await else {
                    self.recorder.record.operations.truncate(operation);
                    return;
                };
                self.settle(operation, category, said.clone(), wanted).await;
                self.rest(&said).await;
            }
            Work::Each(operations) => self.each(operations, target, hang_up).await,
            Work::Stream { lines, cut_after } => self.stream(lines, target, cut_after).await,
            Work::Read(ask) => self.read(ask, target).await,
            Work::Again => self.again(target).await,
        }
    }

    /// Sends an operation by any of its routes. `None` if it could not be sent. Returns also how long the
    /// answer asks to wait, in seconds.
    pub(super) async fn attempt(
        &mut self,
        operation: usize,
        target: usize,
        hang_up: HangUp,
    ) -> Option<(Said, Option<u64>)> {
        let asked = &self.recorder.record.operations[operation];
        let (sent, in_bulk) = routed(asked, &self.shared.approaches, &mut self.rng);
        let heard = self.wires.send(&self.shared, target, sent, hang_up).await?;
        let Heard { reply, window, retry_after } = heard;
        let asked = &self.recorder.record.operations[operation];
        let (said, text) = match in_bulk {
            true => read_each(1, &reply).remove(0),
            false => (read(asked, &reply), reply.to_string()),
        };
        let request = self.next_request();
        let sending = Sending { target, request, position: 0, window };
        self.recorder.attempt(operation, sending, said.clone(), text);
        Some((said, retry_after))
    }

    async fn each(&mut self, operations: Vec<Operation>, target: usize, hang_up: HangUp) {
        let sent = Sent::each(&operations.iter().collect::<Vec<_>>());
        let sending = self.wires.send(&self.shared, target, sent, hang_up).await;
        let Some(Heard { reply, window, retry_after }) = sending else { return };
        let told = read_each(operations.len(), &reply);
        let request = self.next_request();
        let mut open = Vec::new();
        for (position, (operation, (said, text))) in operations.into_iter().zip(told).enumerate() {
            let operation = self.recorder.operation(operation);
            let sending = Sending { target, request, position, window };
            self.recorder.attempt(operation, sending, said.clone(), text);
            open.push((operation, said));
        }
        self.settle_all(open, Category::Each, retry_after).await;
    }

    async fn settle_all(
        &mut self,
        open: Vec<(usize, Said)>,
        category: Category,
        wanted: Option<u64>,
    ) {
        let last = open.last().map(|(_, said)| said.clone());
        for (operation, said) in open {
            self.settle(operation, category, said, wanted).await;
        }
        if let Some(said) = last {
            self.rest(&said).await;
        }
    }

    async fn stream(&mut self, lines: Vec<Operation>, target: usize, cut_after: Option<usize>) {
        let Some(told) = stream::send(&self.shared, target, &lines, cut_after, &mut self.rng).await
        else {
            return;
        };
        let request = self.next_request();
        let mut open = Vec::new();
        for (position, (operation, line)) in lines.into_iter().zip(told).enumerate() {
            let operation = self.recorder.operation(operation);
            let sending = Sending { target, request, position, window: line.window };
            self.recorder.attempt(operation, sending, line.said.clone(), line.text);
            open.push((operation, line.said));
        }
        self.settle_all(open, Category::Stream, None).await;
    }

    /// Sends an operation again that was answered: the answer must be the same. Or sends another one with
    /// its key, which must be refused.
    async fn again(&mut self, target: usize) {
        let Some(n) = self.rng.usize(..).checked_rem(self.answered.len()) else { return };
        let answered = self.answered[n];
        let Operation { action, key, .. } = &self.recorder.record.operations[answered];
        match action {
            Action::Change { user, amount } if self.rng.u8(..3) == 0 => {
                // Nobody else has this amount, with this sign.
                let action = Action::Change { user: *user, amount: -amount };
                let other = Operation { action, key: key.clone(), reference: None };
                self.reuse_key(other, target).await;
            }
            _ => drop(self.attempt(answered, target, HangUp::Never).await),
        }
    }

    async fn reuse_key(&mut self, operation: Operation, target: usize) {
        let sent = Sent::patch(&operation, None);
        let heard = self.wires.send(&self.shared, target, sent, HangUp::Never).await;
        let Some(Heard { reply, window, .. }) = heard else { return };
        let said = match (&reply, read(&operation, &reply)) {
            (Reply::Answer { status: 422, .. }, _) => Said::NotApplied,
            (_, Said::Accepted(_) | Said::Refused(_)) => Said::Wrong(Kind::KeyReused),
            (_, said) => said,
        };
        let operation = self.recorder.operation(operation);
        let sending = Sending { target, request: self.next_request(), position: 0, window };
        self.recorder.attempt(operation, sending, said, reply.to_string());
    }

    pub(super) fn remember(&mut self, operation: usize) {
        if self.answered.len() == ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back(operation);
    }

    /// Numbers are distinct over all clients. Those before are of the requests that created the users.
    pub(super) fn next_request(&mut self) -> usize {
        let created = self.shared.cast.users.len() + 1;
        self.requests += 1;
        created + (self.requests - 1) * self.draws.clients + self.number + 1
    }
}

/// The request for an operation. A change goes by any of its routes; true if it goes as a bulk of one.
fn routed(operation: &Operation, approaches: &[&str], rng: &mut Rng) -> (Sent, bool) {
    if !matches!(operation.action, Action::Change { .. }) {
        return (Sent::one(operation), false);
    }
    match rng.usize(..approaches.len() + 2) {
        0 => (Sent::one(operation), true),
        1 => (Sent::patch(operation, None), false),
        n => (Sent::patch(operation, Some(approaches[n - 2])), false),
    }
}
