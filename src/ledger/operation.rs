//! Operations: what a client asks for beyond a change of one balance.

use sha2::{Digest, Sha256};

use super::{Amount, Balance, Change, Fingerprint, Key, Reference, UserId};

/// The number of a hold: the version of the user's journal entry that made it.
pub type HoldNumber = i64;

/// An operation on one user or several.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Pay somebody.
    Transfer(Transfer),
    /// Set money aside.
    Reserve(Reserve),
    /// Take money that was set aside.
    Capture(Capture),
    /// Give money back that was set aside.
    Release(Release),
    /// Several changes, all or none.
    AllOrNone(AllOrNone),
}

/// Move money from one user to another.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Who pays. The key belongs to this user.
    pub from: UserId,
    /// Who is paid; another user.
    pub to: UserId,
    /// How much.
    pub amount: Payment,
    /// With a key, an operation happens at most once, however often it is sent.
    pub key: Option<Key>,
    /// The client's own text, for both histories.
    pub reference: Option<Reference>,
}

/// Move money from a user's balance to what is held, until it is captured, released or expires.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// Whose money.
    pub user: UserId,
    /// How much.
    pub amount: Payment,
    /// The time in which the hold can be captured.
    pub expires_in: HoldPeriod,
    /// As for a [`Transfer`].
    pub key: Option<Key>,
    /// The client's own text, for the history.
    pub reference: Option<Reference>,
}

/// Take money of a hold. What is left of it goes back to the balance.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Whose hold.
    pub user: UserId,
    /// Which one.
    pub hold: HoldNumber,
    /// How much; everything where it is missing.
    pub amount: Option<Payment>,
    /// Who gets it, another user; where it is missing, it leaves the ledger.
    pub to: Option<UserId>,
    /// As for a [`Transfer`].
    pub key: Option<Key>,
}

/// Give all money of a hold back to the balance.
#[derive(Clone, Debug)]
pub struct Release {
    /// Whose hold.
    pub user: UserId,
    /// Which one.
    pub hold: HoldNumber,
    /// As for a [`Transfer`].
    pub key: Option<Key>,
}

/// Changes that are applied in this order, all or none.
#[derive(Clone, Debug)]
pub struct AllOrNone {
    /// At least one; none has a key of its own.
    pub changes: Vec<Change>,
    /// Belongs to the user of the first change.
    pub key: Option<Key>,
}

impl Operation {
    /// The user whom the key belongs to.
    pub fn owner(&self) -> UserId {
        match self {
            Self::Transfer(transfer) => transfer.from,
            Self::Reserve(reserve) => reserve.user,
            Self::Capture(capture) => capture.user,
            Self::Release(release) => release.user,
            Self::AllOrNone(all) => all.changes.first().map_or(UserId::FIRST, |first| first.user),
        }
    }

    /// The idempotency key.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Transfer(transfer) => transfer.key.as_ref(),
            Self::Reserve(reserve) => reserve.key.as_ref(),
            Self::Capture(capture) => capture.key.as_ref(),
            Self::Release(release) => release.key.as_ref(),
            Self::AllOrNone(all) => all.key.as_ref(),
        }
    }

    /// Every user whose row it needs; a user may come more than once.
    pub fn users(&self) -> impl Iterator<Item = UserId> + '_ {
        let (first, second, all) = match self {
            Self::Transfer(transfer) => (Some(transfer.from), Some(transfer.to), [].as_slice()),
            Self::Reserve(reserve) => (Some(reserve.user), None, [].as_slice()),
            Self::Capture(capture) => (Some(capture.user), capture.to, [].as_slice()),
            Self::Release(release) => (Some(release.user), None, [].as_slice()),
            Self::AllOrNone(all) => (None, None, all.changes.as_slice()),
        };
        first.into_iter().chain(second).chain(all.iter().map(|change| change.user))
    }

    /// What is stored with the key.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Transfer(Transfer { to, amount, reference, .. }) => {
                Fingerprint::new(format!("transfer {to} {}", amount.get()), reference.as_ref())
            }
            Self::Reserve(Reserve { amount, expires_in, reference, .. }) => {
                let seconds = expires_in.seconds();
                Fingerprint::new(format!("hold {} {seconds}", amount.get()), reference.as_ref())
            }
            Self::Capture(Capture { hold, amount, to, .. }) => {
                let amount = amount.map_or("all".to_owned(), |amount| amount.get().to_string());
                let to = to.map_or("-".to_owned(), |to| to.to_string());
                Fingerprint::new(format!("capture {hold} {amount} {to}"), None)
            }
            Self::Release(Release { hold, .. }) => {
                Fingerprint::new(format!("release {hold}"), None)
            }
            Self::AllOrNone(all) => Fingerprint::new(all.digest(), None),
        }
    }
}

impl AllOrNone {
    /// A thousand changes with their references would be long. Each change ends with a character that
    /// no reference has, so two different lists never have the same text before it is hashed.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for change in &self.changes {
            hash.update(format!("{} {}\n", change.user, change.fingerprint().as_str()));
        }
        format!("all {} {:x}", self.changes.len(), hash.finalize())
    }
}

/// An amount of at least 1 that goes from one place to another, `1 … 2^63-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payment(i64);

impl Payment {
    /// `None` for zero and below.
    pub const fn new(amount: i64) -> Option<Self> {
        if amount >= 1 { Some(Self(amount)) } else { None }
    }

    /// The number of minor units.
    pub const fn get(self) -> Balance {
        self.0
    }

    /// The change of the balance that it goes to.
    pub const fn added(self) -> Amount {
        Amount::new(self.0).expect("a positive number is an amount")
    }

    /// The change of the balance that it comes from.
    pub const fn withdrawn(self) -> Amount {
        Amount::new(-self.0).expect("an amount has its opposite")
    }
}

/// How long a hold can be captured, `1 … 31,536,000` seconds (a year).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldPeriod(i64);

impl HoldPeriod {
    /// The longest period, in seconds.
    pub const SECONDS_MAX: i64 = 365 * 24 * 60 * 60;

    /// Seven days, where the client says nothing.
    pub const DEFAULT: Self = Self(7 * 24 * 60 * 60);

    /// `None` where it is out of range.
    pub const fn from_seconds(seconds: i64) -> Option<Self> {
        if seconds >= 1 && seconds <= Self::SECONDS_MAX { Some(Self(seconds)) } else { None }
    }

    /// In whole seconds.
    pub const fn seconds(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn payment(amount: i64) -> Payment {
        Payment::new(amount).unwrap()
    }

    fn change(user: UserId, amount: i64, reference: Option<&str>) -> Change {
        let reference = reference.map(|text| Reference::new(text).unwrap());
        Change { user, amount: Amount::new(amount).unwrap(), key: None, reference }
    }

    fn capture(amount: Option<i64>, to: Option<i64>) -> Operation {
        let (amount, to) = (amount.map(payment), to.map(user));
        Operation::Capture(Capture { user: user(1), hold: 7, amount, to, key: None })
    }

    fn all(changes: Vec<Change>) -> Operation {
        Operation::AllOrNone(AllOrNone { changes, key: None })
    }

    /// Stored keys have this form, so a change of it would turn each retry into an error.
    #[test]
    fn the_form_of_a_fingerprint_is_fixed() {
        let reference = Reference::new("invoice 17");
        let transfer = Operation::Transfer(Transfer {
            from: user(1),
            to: user(2),
            amount: payment(500),
            key: None,
            reference: reference.clone(),
        });
        let reserve = Operation::Reserve(Reserve {
            user: user(1),
            amount: payment(500),
            expires_in: HoldPeriod::DEFAULT,
            key: None,
            reference,
        });
        let release = Operation::Release(Release { user: user(1), hold: 7, key: None });
        let bulk = all(vec![change(user(1), -2, Some("a")), change(user(2), 2, None)]);
        for (operation, text) in [
            (transfer, "transfer 2 500 invoice 17"),
            (reserve, "hold 500 604800 invoice 17"),
            (capture(None, None), "capture 7 all -"),
            (capture(Some(300), Some(2)), "capture 7 300 2"),
            (release, "release 7"),
            (bulk, "all 2 6103423173f7e355ea87f19abf9934a11777f773667210d18946a5078dbb810e"),
        ] {
            assert_eq!(operation.fingerprint().as_str(), text);
        }
    }

    #[test]
    fn atomic_bulks_have_the_same_fingerprint_if_and_only_if_they_ask_for_the_same() {
        let lists = [
            vec![change(user(1), 1, None)],
            vec![change(user(1), 1, Some("1"))],
            vec![change(user(1), 1, None), change(user(1), 1, None)],
            vec![change(user(1), 1, None), change(user(2), 1, None)],
            vec![change(user(2), 1, None), change(user(1), 1, None)],
            vec![change(user(1), 1, Some("2 change 1")), change(user(1), 1, None)],
        ];
        for (i, one) in lists.iter().enumerate() {
            for (j, other) in lists.iter().enumerate() {
                let same = all(one.clone()).fingerprint() == all(other.clone()).fingerprint();
                assert_eq!(same, i == j, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_period_is_between_a_second_and_a_year() {
        for seconds in [i64::MIN, -1, 0, 31_536_001, i64::MAX] {
            assert!(HoldPeriod::from_seconds(seconds).is_none(), "{seconds}");
        }
        assert_eq!(HoldPeriod::from_seconds(31_536_000).unwrap().seconds(), 31_536_000);
        assert_eq!(HoldPeriod::DEFAULT.seconds(), 604_800);
    }
}
