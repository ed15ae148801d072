//! The domain: what a change of a balance is, and what its outcome can be.
//!
//! This module knows neither HTTP nor SQL. The constructors are the only way to make a value, so
//! every [`UserId`], [`Amount`], [`Key`] and [`Reference`] is in range.

mod amount;
mod line;
mod operation;
mod outcome;
mod text;
mod user;

pub use amount::{Amount, Balance};
pub use line::Funds;
pub use operation::{Change, Fingerprint};
pub use outcome::{Cause, ChangeError, Decision, Outcome};
pub use text::{Key, Reference};
pub use user::UserId;
