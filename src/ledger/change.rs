//! A change of one balance.

use super::{Amount, Fingerprint, Key, Reference, UserId};

/// Move one user's balance by an amount.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose balance.
    pub user: UserId,
    /// By how much.
    pub amount: Amount,
    /// With a key, a change happens at most once, however often it is sent.
    pub key: Option<Key>,
    /// The client's own text, for the history.
    pub reference: Option<Reference>,
}

impl Change {
    /// What is stored with the key.
    pub fn fingerprint(&self) -> Fingerprint {
        let Self { amount, reference, .. } = self;
        Fingerprint::new(format!("change {}", amount.get()), reference.as_ref())
    }

    /// Whether nothing is written for it: a change of zero without a key.
    pub fn only_reads(&self) -> bool {
        self.amount.is_zero() && self.key.is_none()
    }

    /// Whether both ask for the same: then they have the same fingerprint. The user is not compared,
    /// since a key belongs to one.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.amount == other.amount && self.reference == other.reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(amount: i64, reference: Option<&str>) -> Change {
        Change {
            user: UserId::FIRST,
            amount: Amount::new(amount).unwrap(),
            key: None,
            reference: reference.map(|text| Reference::new(text).unwrap()),
        }
    }

    /// Stored keys have this form, so a change of it would turn each retry into an error.
    #[test]
    fn the_form_of_a_fingerprint_is_fixed() {
        assert_eq!(change(-2, None).fingerprint().as_str(), "change -2");
        assert_eq!(change(7, Some("rent 11/26")).fingerprint().as_str(), "change 7 rent 11/26");
    }

    #[test]
    fn changes_have_the_same_fingerprint_if_and_only_if_they_ask_for_the_same() {
        let mut all = Vec::new();
        for amount in [0, 1, -1, 12] {
            for reference in [None, Some("1"), Some("1 2"), Some(" ")] {
                all.push(change(amount, reference));
            }
        }
        for one in &all {
            for other in &all {
                let same = one.fingerprint() == other.fingerprint();
                assert_eq!(same, one.asks_the_same_as(other), "{one:?} {other:?}");
            }
        }
    }
}
