//! What a proxy is told to do, and what that means for each packet. Without I/O.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Up => "to the server",
            Self::Down => "to the client",
        })
    }
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Each packet is forwarded so much later.
    Delay(Duration),
    /// Nothing is forwarded until the order is over, in one direction or in both (`None`). Then it is, or
    /// the connection is cut.
    Hold { way: Option<Way>, then_cut: bool },
    /// The next request is not forwarded, and the connection is cut.
    CutBefore,
    /// The next request is forwarded, and the connection is cut when its answer arrives.
    CutAfter,
    /// Half of the next packet in this direction is forwarded, and the connection is cut.
    CutHalf(Way),
}

/// To which connections it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    /// The one that carries a packet which the effect can begin with, after so many others.
    One {
        after: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) effect: Effect,
    pub(crate) scope: Scope,
    pub(crate) until: Instant,
}

/// What to do with a packet that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Forward,
    Wait { until: Instant, then_cut: bool },
    Cut,
    CutHalf,
}

/// The order of a proxy.
#[derive(Default)]
pub(super) struct Orders {
    current: Mutex<Option<Order>>,
    struck: AtomicUsize,
}

/// What one connection has to do with it.
#[derive(Default)]
pub(super) struct Link {
    taken: Mutex<Option<Taken>>,
}

struct Taken {
    order: Order,
    /// With [`Effect::CutAfter`]: the request is on its way.
    asked: bool,
}

impl Orders {
    pub(super) fn give(&self, order: Order) {
        self.struck.store(0, Ordering::Relaxed);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
    }

    pub(super) fn struck(&self) -> usize {
        self.struck.load(Ordering::Relaxed)
    }

    /// Called for each packet, before it is forwarded.
    pub(super) fn step(&self, link: &Link, way: Way, now: Instant) -> Step {
        let mut taken = link.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // The answer to a request that was forwarded in time is cut even if it is late.
        taken.take_if(|taken| taken.order.until <= now && !taken.asked);
        if taken.is_none() {
            *taken = self.take(way, now).map(|order| Taken { order, asked: false });
        }
        taken.as_mut().map_or(Step::Forward, |taken| taken.step(way, now))
    }

    fn take(&self, way: Way, now: Instant) -> Option<Order> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|order| order.until <= now);
        let order = current.as_mut().filter(|order| order.effect.begins_with(way))?;
        let taken = *order;
        if let Scope::One { after } = &mut order.scope {
            if *after > 0 {
                *after -= 1;
                return None;
            }
            *current = None;
        }
        self.struck.fetch_add(1, Ordering::Relaxed);
        Some(taken)
    }
}

impl Taken {
    fn step(&mut self, way: Way, now: Instant) -> Step {
        let until = self.order.until;
        match self.order.effect {
            Effect::Delay(by) => Step::Wait { until: now + by, then_cut: false },
            Effect::Hold { way: held, then_cut } if held.is_none_or(|held| held == way) => {
                Step::Wait { until, then_cut }
            }
            Effect::CutBefore if way == Way::Up => Step::Cut,
            Effect::CutAfter if way == Way::Up => {
                self.asked = true;
                Step::Forward
            }
            Effect::CutAfter if self.asked => Step::Cut,
            Effect::CutHalf(half) if half == way => Step::CutHalf,
            _ => Step::Forward,
        }
    }
}

impl Effect {
    /// Whether a packet in this direction can be the first that it concerns.
    fn begins_with(self, way: Way) -> bool {
        match self {
            Self::Delay(_) | Self::Hold { way: None, .. } => true,
            Self::Hold { way: Some(held), .. } | Self::CutHalf(held) => held == way,
            Self::CutBefore | Self::CutAfter => way == Way::Up,
        }
    }
}
