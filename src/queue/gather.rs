//! Gathers the answers to all work of one request, and wakes the request's task once.
//!
//! A channel per piece of work would cost more than the work itself where a request has a thousand of
//! them. Here each piece has a [`Slot`]: an answer is one store, and only the last one wakes the task.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// The answers, in the order of their slots.
pub(crate) struct Gathered<A>(Arc<Shared<A>>);

struct Shared<A> {
    answers: Box<[OnceLock<A>]>,
    /// How many slots have not been dropped.
    open: AtomicUsize,
    task: AtomicWaker,
}

/// Takes one answer. Dropping it without one leaves the answer out.
pub(crate) struct Slot<A> {
    shared: Arc<Shared<A>>,
    position: usize,
}

impl<A> Gathered<A> {
    /// Slots for `count` answers.
    pub(crate) fn new(count: usize) -> (Self, impl ExactSizeIterator<Item = Slot<A>>) {
        let answers = (0..count).map(|_| OnceLock::new()).collect();
        let shared =
            Arc::new(Shared { answers, open: AtomicUsize::new(count), task: AtomicWaker::new() });
        let slots: Vec<_> =
            (0..count).map(|position| Slot { shared: Arc::clone(&shared), position }).collect();
        (Self(shared), slots.into_iter())
    }

    /// Whether every slot has been filled or dropped.
    pub(crate) fn is_complete(&self) -> bool {
        // Sees every answer that was stored before its slot was dropped.
        self.0.open.load(Ordering::Acquire) == 0
    }

    /// Resolves when every slot has been filled or dropped. May be dropped and called again.
    pub(crate) async fn complete(&self) {
        poll_fn(|context| {
            self.0.task.register(context.waker());
            if self.is_complete() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The answers so far, in the order of the slots. `None` where a slot has none.
    pub(crate) fn answers(&self) -> impl ExactSizeIterator<Item = Option<&A>> {
        self.0.answers.iter().map(OnceLock::get)
    }
}

impl<A> Slot<A> {
    /// Stores the answer.
    pub(crate) fn fill(self, answer: A) {
        // A slot is consumed by its answer, so its place is empty.
        let _ = self.shared.answers[self.position].set(answer);
    }
}

impl<A> Drop for Slot<A> {
    fn drop(&mut self) {
        if self.shared.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_answers_come_in_the_order_of_the_slots_when_the_last_is_there() {
        let (gathered, slots) = Gathered::new(3);
        let mut slots: Vec<_> = slots.collect();
        let waiting = tokio::spawn(async move {
            gathered.complete().await;
            gathered.answers().map(Option::<&i32>::copied).collect::<Vec<_>>()
        });
        slots.pop().unwrap().fill(30);
        slots.remove(0).fill(10);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        slots.pop().unwrap().fill(20);
        assert_eq!(waiting.await.unwrap(), [Some(10), Some(20), Some(30)]);
    }

    #[test]
    fn a_dropped_slot_leaves_its_answer_out() {
        let (gathered, mut slots) = Gathered::new(2);
        slots.next().unwrap().fill(1);
        assert!(gathered.complete().now_or_never().is_none());
        drop(slots);
        assert!(gathered.complete().now_or_never().is_some());
        assert_eq!(gathered.answers().collect::<Vec<_>>(), [Some(&1), None]);
    }

    #[test]
    fn nothing_to_gather_is_complete_at_once() {
        let (gathered, _) = Gathered::<()>::new(0);
        assert!(gathered.complete().now_or_never().is_some());
    }
}
