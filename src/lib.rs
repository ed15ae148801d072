//! Plimsoll: a balance service on PostgreSQL with a line that is never crossed.
//!
//! A `PATCH` changes a user's balance. No balance drops below zero, whichever *approaches* run
//! concurrently: several ways to apply a change, side by side behind one contract.
//!
//! # Reading order
//! 1. [`ledger`]: what a change is and what its outcomes are. Knows neither HTTP nor SQL.
//! 2. [`approach`]: the ways to apply a change, each with the argument why it is exact.
//! 3. [`operations`]: transfers, holds and atomic bulks.
//! 4. [`store`]: sessions, migrations, and what a failure of the database means.
//! 5. `queue`: how requests wait for each other within the process.
//! 6. [`feed`]: new entries of the journal, for everybody who watches a user.
//! 7. [`http`]: turns a request into a change, and the result into a response.
//! 8. [`metrics`]: what is counted on that way.
//! 9. [`cluster`]: the private PostgreSQL, which runs when no `DATABASE_URL` is given.
//! 10. [`verify`]: the proof that the journal and the balances agree.
//! 11. [`config`] and [`service`]: how the parts are configured and assembled.
//! 12. [`doctor`]: what production needs of a database and of a machine.
//! 13. [`commands`]: the subcommands of the executable.
//! 14. [`charts`]: charts as SVG, for pages.
//! 15. [`console`]: the page for people on call.

pub mod approach;
pub mod charts;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod console;
pub mod doctor;
pub mod feed;
pub mod http;
pub mod ledger;
pub mod metrics;
pub mod operations;
mod queue;
pub mod service;
pub mod store;
pub mod verify;
