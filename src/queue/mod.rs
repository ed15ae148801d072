//! Queues in which requests wait for each other, within this process.
//!
//! - [`lane`]: a bounded queue that is served batch by batch, on a session of its own.
//! - [`dispatch`]: how the answers of a batch reach the threads of their callers.
//! - [`local_lock`]: one holder at a time for each name.

pub(crate) mod dispatch;
pub(crate) mod lane;
pub(crate) mod local_lock;
