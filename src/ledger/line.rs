//! The rule of the line.
//!
//! Approaches that decide in Rust share it. The others state the same two conditions in SQL:
//! `balance + amount >= 0`, and `balance + held + amount <= 2^63-1`. The second one keeps room for
//! what is held, so that every hold can be released.

use super::{Amount, Balance, ChangeError, Decision};

/// A user's money at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Funds {
    /// What can be spent.
    pub balance: Balance,
    /// What is set aside by holds. `balance + held` fits into 63 bits.
    pub held: Balance,
}

impl Funds {
    /// Decides on a change of the balance by `amount`.
    ///
    /// # Errors
    /// [`ChangeError::BalanceOutOfRange`] where the sum does not fit.
    pub fn decide(self, amount: Amount) -> Result<Decision, ChangeError> {
        // Only a deposit can leave the range, and only a withdrawal can cross the line.
        let sum = self.balance.checked_add(amount.get());
        let after = sum.filter(|after| after.checked_add(self.held).is_some());
        match after.ok_or(ChangeError::BalanceOutOfRange)? {
            after if after >= 0 => Ok(Decision::Accepted(after)),
            _ => Ok(Decision::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(balance: Balance, held: Balance, amount: i64) -> Option<Decision> {
        Funds { balance, held }.decide(Amount::new(amount).unwrap()).ok()
    }

    #[test]
    fn the_line_is_reached_but_never_crossed() {
        assert_eq!(decide(2, 0, -2), Some(Decision::Accepted(0)));
        assert_eq!(decide(1, 0, -2), Some(Decision::Refused));
        assert_eq!(decide(0, 0, -i64::MAX), Some(Decision::Refused));
        assert_eq!(decide(i64::MAX, 0, -i64::MAX), Some(Decision::Accepted(0)));
    }

    #[test]
    fn what_is_held_cannot_be_spent() {
        assert_eq!(decide(1, 5, -2), Some(Decision::Refused));
        assert_eq!(decide(0, i64::MAX, -1), Some(Decision::Refused));
    }

    #[test]
    fn a_sum_beyond_the_range_is_rejected_and_not_wrapped() {
        assert_eq!(decide(i64::MAX - 1, 0, 1), Some(Decision::Accepted(i64::MAX)));
        assert_eq!(decide(i64::MAX, 0, 1), None);
        assert_eq!(decide(i64::MAX - 5, 4, 1), Some(Decision::Accepted(i64::MAX - 4)));
        assert_eq!(decide(i64::MAX - 5, 5, 1), None, "a release would not fit any more");
    }
}
