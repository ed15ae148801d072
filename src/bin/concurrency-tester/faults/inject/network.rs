//! The ways between clients, instances and the database are delayed, held and cut.

use std::time::{Duration, Instant};

use super::{Scene, Struck, high};
use crate::faults::kind::Network;
use crate::faults::proxy::{Effect, Order, Proxy, Scope, Way};
use crate::faults::schedule::Fault;

/// How often a cut looks whether it has struck.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Of a delay, in milliseconds: each packet that much later.
const DELAYS_MILLIS: [u64; 4] = [1, 5, 20, 100];

/// A connection is drawn as the one that carries the n-th packet from now.
const PACKETS: u32 = 40;

impl Scene<'_> {
    pub(super) async fn disturb(
        self,
        proxy: &Proxy,
        network: Network,
        fault: &Fault,
        place: &str,
    ) -> Struck {
        let all = fault.draw.is_multiple_of(2);
        let way = if high(fault.draw).is_multiple_of(2) { Way::Up } else { Way::Down };
        let then_cut = (high(fault.draw) / 2).is_multiple_of(2);
        let effect = match network {
            Network::Delay => {
                let draw = super::nth(high(fault.draw), DELAYS_MILLIS.len());
                Effect::Delay(Duration::from_millis(DELAYS_MILLIS[draw]))
            }
            Network::Stall => Effect::Hold { way: None, then_cut: false },
            Network::OneWay => Effect::Hold { way: Some(way), then_cut },
            Network::CutBefore => Effect::CutBefore,
            Network::CutAfter => Effect::CutAfter,
            Network::HalfPacket => Effect::CutHalf(way),
        };
        let scope = match all {
            true => Scope::All,
            false => Scope::One { after: high(fault.draw) % PACKETS },
        };
        let end = Instant::now() + fault.lasts;
        proxy.give(Order { effect, scope, until: end });
        self.until_struck(proxy, network.cuts() && !all, end).await;
        let struck = proxy.struck();
        let how = match effect {
            Effect::Delay(by) => format!(", {} ms", by.as_millis()),
            Effect::Hold { way: Some(way), then_cut: true } => format!(", {way}, then cut"),
            Effect::Hold { way: Some(way), .. } | Effect::CutHalf(way) => format!(", {way}"),
            _ => String::new(),
        };
        let plural = if struck == 1 { "" } else { "s" };
        let target = format!("{place}, {struck} connection{plural}{how}");
        match network {
            Network::Delay => Struck::nothing_broken(target),
            _ => Struck::back_now(target, self.load),
        }
    }

    /// A cut of one connection is over when it has happened, all others when their time is up.
    async fn until_struck(self, proxy: &Proxy, first: bool, end: Instant) {
        while Instant::now() < end && !(first && proxy.struck() > 0) {
            self.stage.pause(POLL_EVERY.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }
}
