//! The formats of the report: [`text`] for people, [`json`] for programs, [`page`] to be passed on.

mod histogram;
pub(crate) mod json;
pub(crate) mod page;
pub(crate) mod text;
