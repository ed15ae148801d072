//! Queues in which requests wait for each other, within this process.
//!
//! - [`lane`]: a bounded queue that is served batch by batch, on a session of its own. `engine` is what
//!   it serves its queue with, `serving` its task.
//! - [`dispatch`]: how the answers of a batch reach the threads of their callers.
//! - [`gather`]: how the answers to many pieces of work reach one caller.
//! - [`local_lock`]: one holder at a time for each name.
//! - [`shared_lock`]: the same, shared by the parts of one request.
//! - [`shares`]: how much of a queue one user may fill.

pub(crate) mod dispatch;
mod engine;
pub(crate) mod gather;
pub(crate) mod lane;
pub(crate) mod local_lock;
mod serving;
pub(crate) mod shared_lock;
pub(crate) mod shares;
