//! What the console asks for.

use serde::Serialize;
use utoipa::ToSchema;

use crate::console::FILES;

pub(in crate::http) const SVG: &str = "image/svg+xml";

/// The content type of a file of the console.
pub(in crate::http) fn console_file_type(name: &str) -> &'static str {
    if name.ends_with(".css") {
        "text/css; charset=utf-8"
    } else {
        "text/javascript; charset=utf-8"
    }
}

/// The names of the files of the console.
pub(in crate::http) fn console_files() -> Vec<&'static str> {
    FILES.iter().map(|file| file.name).collect()
}

/// What the token of a request opens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct ConsoleAccess {
    /// Whether requests need a token.
    pub(in crate::http) needs_token: bool,
    /// The name of the token, null if none or a wrong one was sent.
    #[schema(required)]
    pub(in crate::http) caller: Option<String>,
    /// What the caller may do: `read`, `write` and `metrics`.
    pub(in crate::http) scopes: Vec<&'static str>,
    /// Whether this address shows users.
    pub(in crate::http) has_users: bool,
    /// Whether this address shows the service itself.
    pub(in crate::http) has_service: bool,
}

/// The charts of the service.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ConsoleCharts {
    pub(in crate::http) charts: Vec<ConsoleChart>,
}

/// A chart of the last five minutes.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ConsoleChart {
    /// What it shows, with its unit.
    pub(in crate::http) title: String,
    /// An `<svg>` element. Its colours are CSS variables of the console.
    pub(in crate::http) svg: String,
    pub(in crate::http) series: Vec<ConsoleSeries>,
}

/// A series of a chart.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ConsoleSeries {
    pub(in crate::http) name: String,
    /// Its value in the last second, with its unit.
    pub(in crate::http) now: String,
    /// How it is drawn, as an `<svg>` element.
    pub(in crate::http) swatch: String,
}
