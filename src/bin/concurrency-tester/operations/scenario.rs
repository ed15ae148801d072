//! The bursts: who takes part in each, and what is asked for.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::draw::Cast;
use super::traffic::Traffic;
use crate::contract::api::{Api, ApiError};
use crate::contract::books::HoldId;
use crate::contract::books::State;

/// One kind of burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Transfers between users.
    Transfers,
    /// Transfers from all users to one merchant.
    Merchant,
    /// Reservations.
    Reservations,
    /// Captures and releases of the same holds.
    Captures,
    /// Bulks of both modes on the same users.
    Bulks,
}

pub(crate) const SCENARIOS: [Scenario; 5] = [
    Scenario::Transfers,
    Scenario::Merchant,
    Scenario::Reservations,
    Scenario::Captures,
    Scenario::Bulks,
];

/// Few enough that every user is in many requests at once.
const USERS: usize = 100;

const BALANCE: i64 = 10_000_000;

/// Everything that a burst needs.
pub(crate) struct Stage {
    pub(crate) traffic: Traffic,
    /// Every user that takes part, before the burst.
    pub(crate) before: BTreeMap<i64, State>,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transfers => "transfers",
            Self::Merchant => "merchant",
            Self::Reservations => "reservations",
            Self::Captures => "captures",
            Self::Bulks => "bulks",
        }
    }

    /// Of each user. Little enough that some run out of money, and some only for a while.
    pub(crate) fn balance(self) -> i64 {
        match self {
            Self::Bulks => 2_000_000,
            _ => BALANCE,
        }
    }

    /// Creates the users and holds, and draws the requests. Bulks have `requests` changes in all.
    pub(crate) async fn prepare(
        self,
        api: &mut Api<'_>,
        requests: usize,
        rng: &mut Rng,
    ) -> Result<Stage, ApiError> {
        let mut users = Vec::with_capacity(USERS);
        for _ in 0..USERS {
            users.push(api.create_user(self.balance()).await?);
        }
        let merchant = match self {
            Self::Merchant | Self::Captures => Some(api.create_user(0).await?),
            Self::Transfers | Self::Reservations | Self::Bulks => None,
        };
        let mut holds = Vec::new();
        if self == Self::Captures {
            // At least ten requests want each hold.
            for user in users.iter().take((requests / 10).max(1)) {
                // Enough for every capture to take an amount of its own.
                let amount = rng.i64(BALANCE / 2..=BALANCE);
                let hold = api.reserve(*user, amount).await?;
                holds.push((HoldId { user: *user, hold }, amount));
            }
        }
        let mut before = BTreeMap::new();
        for user in users.iter().copied().chain(merchant) {
            before.insert(user, api.state(user).await?);
        }
        let cast = Cast { users, merchant: merchant.unwrap_or_default(), holds };
        let traffic = self.traffic(&cast, requests, rng);
        Ok(Stage { traffic, before })
    }
}
