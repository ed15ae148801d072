//! The subcommands of the executable. `main` reads the command line.

mod database;
mod error;
mod migrate;
mod reload;
mod serve;
mod signals;
mod verify;

pub use error::CommandError;
pub use migrate::migrate;
pub use serve::serve;
pub use verify::{Format, verify};
