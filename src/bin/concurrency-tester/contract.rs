//! What the tester knows of the service: operations and the entries that they must leave, requests and
//! answers, users with their histories and holds.
//!
//! It shares no code with the service, so that a mistake of the service is not made twice.

pub(crate) mod answer;
pub(crate) mod api;
pub(crate) mod books;
pub(crate) mod operation;
pub(crate) mod request;
pub(crate) mod time;
