//! How much of a queue one user may fill, so that a flood of one user leaves room for the others.

/// A burst of so many requests of one user finds a place for each of them, where the queue has as many.
const BURST: usize = 10_000;

/// How many of a queue's places one user may have: three quarters, and never less than 10,000 where there
/// are more.
pub fn share_of(places: usize) -> usize {
    let three_quarters = (places - places / 4).max(1);
    if places > BURST { three_quarters.max(BURST) } else { three_quarters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_three_quarters_and_a_burst_of_ten_thousand_fits() {
        for (places, share) in [
            (1, 1),
            (2, 2),
            (4, 3),
            (16, 12),
            (10_000, 7_500),
            (10_001, 10_000),
            (13_000, 10_000),
            (16_384, 12_288),
            (1_000_000, 750_000),
        ] {
            assert_eq!(share_of(places), share, "{places}");
        }
    }
}
