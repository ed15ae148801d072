//! Plimsoll: a balance service on PostgreSQL with a line that is never crossed.

pub mod approach;
pub mod store;
