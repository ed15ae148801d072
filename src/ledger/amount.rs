//! Money, in whole minor units (cents). Never a float.

/// A signed number of minor units, `-(2^63-1) … 2^63-1`. A negative amount withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

impl Amount {
    /// `None` for `i64::MIN`: it has no positive counterpart, so it could never be paid back.
    pub const fn new(amount: i64) -> Option<Self> {
        if amount == i64::MIN { None } else { Some(Self(amount)) }
    }

    /// The number of minor units.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// A change of zero only reads.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// A number of minor units that a user owns, `0 … 2^63-1`.
pub type Balance = i64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_always_has_its_opposite() {
        assert!(Amount::new(i64::MIN).is_none());
        assert_eq!(Amount::new(-i64::MAX).unwrap().get(), -i64::MAX);
    }
}
