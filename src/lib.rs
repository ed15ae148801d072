//! Plimsoll: a balance service on PostgreSQL with a line that is never crossed.
//!
//! A `PATCH` moves a user's balance up or down, and it never goes below zero, whoever else changes
//! it at that moment. Several ways to reach that, the *approaches*, stand side by side behind one
//! contract.
//!
//! # Reading order
//! 1. [`balance`]: what a change is and how it can end. Knows neither HTTP nor SQL.
//! 2. [`approach`]: the ways to apply one, each with the argument why it is exact.
//! 3. [`store`]: connections, migrations, what a failure of the database means; the private cluster,
//!    the PostgreSQL that is run where none is given; and [`store::verify`], which proves that the
//!    journal and the balances agree.
//! 4. [`http`]: from a request to a change, and from its result to an answer.
//! 5. [`metrics`]: what is counted on that way.
//! 6. [`config`] and [`service`]: how the parts are set and put together.
//! 7. [`commands`]: what the executable can be told to do.

pub mod approach;
pub mod balance;
pub mod commands;
pub mod config;
pub mod http;
pub mod metrics;
pub mod service;
pub mod store;
