//! Shared by the handlers: the state of the service, and the values in paths and queries.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, Path};

use super::auth::Tokens;
use super::body::user_id;
use super::error::HttpError;
use super::leaving::Leaving;
use super::room::Room;
use crate::approach::registry::Approaches;
use crate::console::Console;
use crate::feed::Feed;
use crate::ledger::UserId;
use crate::operations::Operations;
use crate::store::Store;
use crate::store::readiness::Readiness;

/// The state that all handlers share.
pub type App = Arc<Parts>;

/// The parts of an [`App`].
pub struct Parts {
    /// Apply changes.
    pub approaches: Approaches,
    /// Apply everything beyond a change of one balance.
    pub operations: Operations,
    /// What was counted so far, as a text.
    pub metrics: MetricsText,
    /// What the console shows of the service.
    pub console: Console,
    /// Everything else that needs the database.
    pub store: Store,
    /// New entries, for those who watch.
    pub feed: Feed,
    /// Whether the database takes changes.
    pub readiness: Readiness,
    /// Whether the service is about to stop.
    pub leaving: Leaving,
    /// The tokens that open the guarded routes.
    pub tokens: Tokens,
    /// The memory of bulks.
    pub room: Room,
    /// The time in which a request's body has to arrive.
    pub body_limit: Duration,
    /// The time in which a stream's client has to send or to take something.
    pub idle_limit: Duration,
}

/// What was counted so far, as a text, whenever it is called.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// The state of the handlers on the internal address: about the service itself, and no user.
#[derive(Clone)]
pub struct Internal {
    /// What was counted so far, as a text.
    pub metrics: MetricsText,
    /// What the console shows of the service.
    pub console: Console,
    /// Whether the database takes changes.
    pub readiness: Readiness,
    /// Whether the service is about to stop.
    pub leaving: Leaving,
}

impl FromRef<App> for Internal {
    fn from_ref(app: &App) -> Self {
        Self {
            metrics: Arc::clone(&app.metrics),
            console: app.console.clone(),
            readiness: app.readiness.clone(),
            leaving: app.leaving.clone(),
        }
    }
}

/// A segment of the path. It may not be UTF-8.
pub(super) type Segment = Result<Path<String>, PathRejection>;

/// The text of a segment, empty if it is not UTF-8.
pub(super) fn text(segment: Segment) -> String {
    segment.map(|Path(text)| text).unwrap_or_default()
}

/// The user of a path such as `/users/7`.
pub(super) fn path_user(id: Segment) -> Result<UserId, HttpError> {
    user_id("The user id", positive_number("The user id", &text(id), i64::MAX)?)
}

/// A number from 1 to `most` in a path or a query, or a sentence that starts with `name`.
pub(super) fn positive_number(name: &str, text: &str, most: i64) -> Result<i64, HttpError> {
    number_in(name, text, 1, most)
}

/// As [`positive_number`], from `least`, which is not negative.
pub(super) fn number_in(name: &str, text: &str, least: i64, most: i64) -> Result<i64, HttpError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|n| is_plain && (least..=most).contains(n));
    number.ok_or_else(|| HttpError::not_in_range(name, least, most))
}
