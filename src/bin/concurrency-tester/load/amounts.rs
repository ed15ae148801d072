//! Amounts of which none comes twice in a run, so that an entry of the journal belongs to one request.

/// Most amounts are from `2^32` on, and below `2^33`.
const WHOLE_BITS: u32 = 32;

/// Captured parts are from `2^31` on, and below `2^32`: every hold can pay every part.
const PART_BITS: u32 = 31;

/// What users begin with is from here on.
pub(super) const OPENING_MIN: i64 = 1 << (WHOLE_BITS + 1);

/// How many amounts one draw may take.
pub(super) const PER_DRAW: u64 = 64;

/// The amounts of one draw.
#[derive(Debug, Clone)]
pub(super) struct Amounts {
    seed: u64,
    draw: u64,
    taken: u64,
}

impl Amounts {
    /// Of the draw with this number; no two draws of a run have the same. `None` if the run has had as
    /// many draws as there are amounts for.
    pub(super) fn of(seed: u64, draw: u64) -> Option<Self> {
        (draw < (1 << WHOLE_BITS) / PER_DRAW).then_some(Self { seed, draw, taken: 0 })
    }

    /// The next amount.
    pub(super) fn whole(&mut self) -> i64 {
        assert!(self.taken < PER_DRAW, "no step of the load has so many changes");
        let serial = self.draw * PER_DRAW + self.taken;
        self.taken += 1;
        amount(WHOLE_BITS, serial, self.seed)
    }

    /// What a capture takes of a hold, if it is not all of it. A draw has one.
    pub(super) fn part(&self) -> i64 {
        amount(PART_BITS, self.draw, self.seed)
    }
}

/// Distinct for distinct serial numbers below `2^bits`.
fn amount(bits: u32, serial: u64, seed: u64) -> i64 {
    let mask = (1_u64 << bits) - 1;
    // Each step can be undone, so no two numbers become the same.
    let mut mixed = serial.wrapping_add(seed) & mask;
    mixed = mixed.wrapping_mul(0x9E37_79B1) & mask;
    mixed ^= mixed >> (bits / 2);
    mixed = mixed.wrapping_mul(0x85EB_CA6B) & mask;
    mixed ^= mixed >> (bits / 2);
    i64::try_from((1 << bits) + mixed).expect("an amount has few bits")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_amount_comes_twice() {
        let mut seen = HashSet::new();
        for draw in (0..20_000).chain((1 << WHOLE_BITS) / PER_DRAW - 100..) {
            let Some(mut amounts) = Amounts::of(7, draw) else { break };
            assert!(seen.insert(amounts.part()), "the part of draw {draw}");
            for _ in 0..PER_DRAW {
                assert!(seen.insert(amounts.whole()), "draw {draw}");
            }
        }
        assert_eq!(seen.len(), 20_100 * 65);
        assert!(seen.iter().all(|amount| *amount < OPENING_MIN));
    }

    /// The steps are the same for fewer bits, where all numbers can be tried.
    #[test]
    fn numbers_of_few_bits_all_become_others() {
        for bits in [15, 16] {
            let amounts: HashSet<_> =
                (0..1 << bits).map(|serial| amount(bits, serial, 7)).collect();
            assert_eq!(amounts.len(), 1 << bits);
        }
    }

    #[test]
    fn every_hold_can_pay_every_part() {
        let (mut least, mut most) = (i64::MAX, 0);
        for draw in 0..50_000 {
            let mut amounts = Amounts::of(3, draw).unwrap();
            most = most.max(amounts.part());
            least = least.min(amounts.whole());
        }
        assert!(0 < most && most < least);
    }
}
