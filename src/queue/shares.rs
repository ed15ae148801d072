//! How much of a queue one user may fill, so that a flood of one user leaves room for the others.
//!
//! Work belongs to its *owner*, who has three quarters of the places ([`share_of`]). A payment counts for
//! its *payee* as well, who has seven eighths: so a merchant whom everybody pays at once does not keep out
//! those who pay others, and one payer who floods the merchant does not keep out the other payers. The
//! two are counted apart, so payments from others never keep out what the payee does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::ledger::{Change, Operation, UserId};
use crate::store::share::share_of;

/// How many of a queue's places one payee may have.
pub(crate) fn payees_share_of(places: usize) -> usize {
    share_of(places).max(places - places / 8)
}

/// The users for whom a piece of work counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holders {
    /// Whose work it is.
    pub(crate) owner: UserId,
    /// Who is paid by it.
    pub(crate) payee: Option<UserId>,
}

/// Work that counts for users.
pub(crate) trait OfUsers {
    /// The users. Always the same for one piece of work.
    fn holders(&self) -> Holders;
}

impl OfUsers for Change {
    fn holders(&self) -> Holders {
        Holders { owner: self.user, payee: None }
    }
}

impl OfUsers for Operation {
    /// Of an atomic bulk, only the owner: its other users may be a thousand.
    fn holders(&self) -> Holders {
        let payee = match self {
            Self::Transfer(transfer) => Some(transfer.to),
            Self::Capture(capture) => capture.to,
            Self::Reserve(_) | Self::Release(_) | Self::AllOrNone(_) => None,
        };
        Holders { owner: self.owner(), payee }
    }
}

/// The places of a queue by their holders. How many there are in total is the queue's own bound.
#[derive(Debug)]
pub(crate) struct Shares {
    of_owner: usize,
    of_payee: usize,
    taken: Mutex<HashMap<Holder, usize>>,
    freed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Owner(UserId),
    Payee(UserId),
}

type Taken = HashMap<Holder, usize>;

impl Shares {
    /// Of a queue with so many places.
    pub(crate) fn of(places: usize) -> Self {
        Self {
            of_owner: share_of(places),
            of_payee: payees_share_of(places),
            taken: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// Takes one place; `false` if a holder's share is used up.
    pub(crate) fn try_take(&self, holders: Holders) -> bool {
        self.take(&mut self.lock(), holders, 1)
    }

    /// Takes `count` places for one owner, or none.
    pub(crate) fn try_take_many(&self, owner: UserId, count: usize) -> bool {
        self.take(&mut self.lock(), Holders { owner, payee: None }, count)
    }

    /// Takes a place for each, or none at all.
    pub(crate) fn try_take_all(&self, all: Vec<Holders>) -> Option<Reserved<'_>> {
        let count = self.take_first(&all);
        let is_complete = count == all.len();
        let mut reserved = Reserved { shares: self, holders: all };
        if is_complete {
            return Some(reserved);
        }
        // Dropping it gives back what was taken.
        reserved.holders.truncate(count);
        None
    }

    /// Takes places for the first of them, as many as there are; `None` if the first one's share is used
    /// up.
    pub(crate) fn try_take_some(&self, wanted: &[Holders]) -> Option<Reserved<'_>> {
        let count = self.take_first(wanted);
        (count > 0).then(|| Reserved { shares: self, holders: wanted[..count].to_vec() })
    }

    /// Resolves when places were given back after this call.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Gives one place of each back.
    pub(crate) fn give_back(&self, all: impl IntoIterator<Item = Holders>) {
        let mut all = all.into_iter().peekable();
        let mut taken = self.lock();
        while let Some(holders) = all.next() {
            // A batch of a hot account is one long run.
            let mut count = 1;
            while all.next_if_eq(&holders).is_some() {
                count += 1;
            }
            free(&mut taken, holders, count);
        }
        drop(taken);
        self.freed.notify_waiters();
    }

    /// Gives `count` places of one owner back.
    pub(crate) fn give_back_many(&self, owner: UserId, count: usize) {
        free(&mut self.lock(), Holders { owner, payee: None }, count);
    }

    fn take_first(&self, wanted: &[Holders]) -> usize {
        let mut taken = self.lock();
        wanted.iter().take_while(|holders| self.take(&mut taken, **holders, 1)).count()
    }

    fn take(&self, taken: &mut Taken, Holders { owner, payee }: Holders, count: usize) -> bool {
        if !add(taken, Holder::Owner(owner), count, self.of_owner) {
            return false;
        }
        let fits = payee.is_none_or(|payee| add(taken, Holder::Payee(payee), count, self.of_payee));
        if !fits {
            remove(taken, Holder::Owner(owner), count);
        }
        fits
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing that runs under the lock can leave the counts half-changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(taken: &mut Taken, holder: Holder, count: usize, most: usize) -> bool {
    let before = taken.get(&holder).copied().unwrap_or(0);
    let fits = count <= most.saturating_sub(before);
    if fits && count > 0 {
        taken.insert(holder, before + count);
    }
    fits
}

fn free(taken: &mut Taken, Holders { owner, payee }: Holders, count: usize) {
    remove(taken, Holder::Owner(owner), count);
    if let Some(payee) = payee {
        remove(taken, Holder::Payee(payee), count);
    }
}

/// A holder without places is forgotten, so that the map is never larger than the queue.
fn remove(taken: &mut Taken, holder: Holder, count: usize) {
    if let Some(places) = taken.get_mut(&holder) {
        *places = places.saturating_sub(count);
        if *places == 0 {
            taken.remove(&holder);
        }
    }
}

/// Places that were taken for work that is not in the queue yet. Dropping it gives them back.
pub(crate) struct Reserved<'a> {
    shares: &'a Shares,
    holders: Vec<Holders>,
}

impl Reserved<'_> {
    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }

    /// The work is in the queue. Who takes it from there gives its places back.
    pub(crate) fn hand_over(mut self) {
        self.holders.clear();
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.holders.is_empty() {
            self.shares.give_back(self.holders.drain(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn of(owner: i64) -> Holders {
        Holders { owner: user(owner), payee: None }
    }

    fn payment(from: i64, to: i64) -> Holders {
        Holders { owner: user(from), payee: Some(user(to)) }
    }

    fn takes(shares: &Shares, holders: Holders) -> usize {
        (0..).take_while(|_| shares.try_take(holders)).count()
    }

    #[test]
    fn a_share_is_exact_and_free_again_when_it_is_given_back() {
        let shares = Shares::of(16);
        assert_eq!(takes(&shares, of(1)), 12);
        assert!(shares.try_take(of(2)));
        shares.give_back([of(1), of(1)]);
        assert_eq!(takes(&shares, of(1)), 2);
        shares.give_back(std::iter::repeat_n(of(1), 12));
        shares.give_back([of(2)]);
        assert!(shares.lock().is_empty());
    }

    #[test]
    fn a_payee_has_seven_eighths_counted_apart_from_what_the_payee_does() {
        let shares = Shares::of(16);
        assert_eq!(takes(&shares, payment(1, 9)), 12, "the payer's share");
        assert!(shares.try_take(of(9)), "the payee is no owner");
        assert!(shares.try_take(payment(2, 9)), "another payer is not kept out");
        assert!(shares.try_take(payment(3, 9)));
        assert!(!shares.try_take(payment(4, 9)), "the payee's share");
        assert!(shares.try_take(payment(4, 8)), "a refused payment has taken nothing");
        assert_eq!(shares.lock()[&Holder::Owner(user(4))], 1);
    }

    #[test]
    fn all_or_none_are_taken_and_given_back_unless_they_are_handed_over() {
        let shares = Shares::of(4);
        assert!(shares.try_take_all(vec![of(1), of(2), of(1), of(1), of(1)]).is_none());
        assert!(shares.lock().is_empty());
        drop(shares.try_take_all(vec![of(1), of(2)]).unwrap());
        assert!(shares.lock().is_empty());
        shares.try_take_all(vec![of(1), of(1)]).unwrap().hand_over();
        assert_eq!(takes(&shares, of(1)), 1);
        assert!(!shares.try_take_many(user(2), 4));
        assert!(shares.try_take_many(user(2), 3));
        shares.give_back_many(user(2), 3);
        assert_eq!(takes(&shares, of(2)), 3);
    }

    #[tokio::test]
    async fn who_waits_learns_of_a_free_place_and_takes_what_there_is() {
        let shares = Shares::of(4);
        let all = [of(1); 5];
        shares.try_take_some(&all).unwrap().hand_over();
        let freed = shares.freed();
        assert!(shares.try_take_some(&all).is_none());
        assert_eq!(shares.try_take_some(&[of(2), of(1)]).unwrap().len(), 1, "another user's");
        shares.give_back([of(1)]);
        assert!(freed.now_or_never().is_some());
        assert_eq!(shares.try_take_some(&all).unwrap().len(), 1);
    }
}
