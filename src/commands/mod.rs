//! The subcommands of the executable. `main` reads the command line.

mod any_certificate;
mod database;
mod doctor;
mod error;
mod health;
mod migrate;
mod printing;
mod reload;
mod serve;
mod signals;
mod verify;

pub use doctor::doctor;
pub use error::CommandError;
pub use health::{HealthError, health};
pub use migrate::migrate;
pub use printing::Format;
pub use serve::serve;
pub use verify::verify;
