//! Users.

use std::fmt;

/// A user's number, `1 … 2^63-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(i64);

impl UserId {
    /// The user that the seed creates.
    pub const FIRST: Self = Self(1);

    /// `None` for zero and below.
    pub const fn new(id: i64) -> Option<Self> {
        if id >= 1 { Some(Self(id)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_at_one() {
        assert!(UserId::new(0).is_none());
        assert!(UserId::new(-1).is_none());
        assert_eq!(UserId::new(1), Some(UserId::FIRST));
    }
}
