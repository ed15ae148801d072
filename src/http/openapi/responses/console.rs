//! The console's files and data.

use axum::http::StatusCode;
use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::{IntoResponses, ToSchema};

use super::by_status::{ByStatus, Responses};
use super::{read, text};
use crate::http::error::HttpError;
use crate::http::openapi::schemas::string;
use crate::http::wire::{self, PAGE_MAX, SVG, console_file_type, console_files};

/// The files of the console.
pub struct ConsoleFiles;

impl IntoResponses for ConsoleFiles {
    fn responses() -> Responses {
        console_files()
            .into_iter()
            .map(console_file_type)
            .fold(ByStatus::default(), |all, kind| all.content("The file", kind, text()))
            .error(HttpError::NotFound, "there is no such file")
            .build()
    }
}

/// What a token opens.
pub struct ConsoleAccess;

impl IntoResponses for ConsoleAccess {
    fn responses() -> Responses {
        let access = json!({
            "needsToken": true, "caller": "on-call", "scopes": ["read", "metrics"],
            "hasUsers": true, "hasService": true
        });
        let name = wire::ConsoleAccess::name();
        ByStatus::default().success(StatusCode::OK, "What it opens", &access, name).build()
    }
}

/// The charts of the service.
pub struct ConsoleCharts;

impl IntoResponses for ConsoleCharts {
    fn responses() -> Responses {
        let charts = json!({ "charts": [{
            "title": "Changes and operations per second",
            "svg": "<svg></svg>",
            "series": [{ "name": "accepted", "now": "41.2k", "swatch": "<svg></svg>" }]
        }] });
        let name = wire::ConsoleCharts::name();
        ByStatus::default().success(StatusCode::OK, "The last five minutes", &charts, name).build()
    }
}

/// A user's balance over time.
pub struct BalanceChart;

impl IntoResponses for BalanceChart {
    fn responses() -> Responses {
        let limit = format!("limit must be a whole number from 1 to {PAGE_MAX}");
        let content = ContentBuilder::new().schema(Some(string()));
        read()
            .content("The chart", SVG, content.build())
            .error(HttpError::bad_request(limit), "malformed: the sentence says what must be")
            .build()
    }
}
