//! The console: a page for people on call, and the charts on it.
//!
//! The service takes a sample of its own metrics each second and keeps those of the last five minutes, whether
//! somebody looks or not: whoever opens the page after an incident sees it. A sample costs what a scrape costs.
//! Charts are drawn once a second at most, however many look, and not by the threads that serve requests.
//!
//! - `sample`: the numbers of one second, read from the text of `GET /metrics`.
//! - [`samples`]: those of the last minutes.
//! - `charts`: which charts there are.
//! - [`balance`]: the chart of a user's balance.
//! - `scale`: where the lines of a grid stand.
//! - `page/`: the page, with its style and its scripts.

pub mod balance;
mod charts;
mod sample;
pub mod samples;
mod scale;

pub use charts::{DrawnChart, DrawnSeries};
pub use samples::Console;

/// The page.
pub const PAGE: &str = include_str!("page/page.html");

/// A script, or another file of the page.
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub content: &'static str,
}

/// The files that the page needs.
pub const FILES: [File; 10] = [
    File { name: "console.css", content: include_str!("page/console.css") },
    File { name: "access.js", content: include_str!("page/access.js") },
    File { name: "actions.js", content: include_str!("page/actions.js") },
    File { name: "api.js", content: include_str!("page/api.js") },
    File { name: "exact.js", content: include_str!("page/exact.js") },
    File { name: "live.js", content: include_str!("page/live.js") },
    File { name: "page.js", content: include_str!("page/page.js") },
    File { name: "rows.js", content: include_str!("page/rows.js") },
    File { name: "service.js", content: include_str!("page/service.js") },
    File { name: "user.js", content: include_str!("page/user.js") },
];
