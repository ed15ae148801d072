//! The domain: what changes and operations are, and what their outcomes can be.
//!
//! This module knows neither HTTP nor SQL. The constructors are the only way to make a value, so
//! every [`UserId`], [`Amount`], [`Key`] and [`Reference`] is in range.

mod amount;
mod change;
mod fingerprint;
mod line;
mod operation;
mod outcome;
mod text;
mod time;
mod user;

pub use amount::{Amount, Balance};
pub use change::Change;
pub use fingerprint::Fingerprint;
pub use line::Funds;
pub use operation::{
    AllOrNone, Capture, HoldNumber, HoldPeriod, Operation, Payment, Release, Reserve, Transfer,
};
pub use outcome::{
    Cause, ChangeError, Decision, HoldState, OperationDecision, Outcome, Part, Position, Resolution,
};
pub use text::{Key, Reference};
pub use time::Timestamp;
pub use user::UserId;
