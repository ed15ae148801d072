//! What handlers share: the state of the service, and the segments of a path.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

use super::auth::Tokens;
use super::body::user_id;
use super::error::HttpError;
use crate::approach::Approaches;
use crate::balance::UserId;
use crate::store::Store;
use crate::store::readiness::Readiness;

/// The state that all handlers share. Clones are cheap.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// Apply changes.
    pub approaches: Approaches,
    /// Everything else that needs the database.
    pub store: Store,
    /// Whether the database takes changes.
    pub readiness: Readiness,
    /// The tokens that open the guarded routes.
    pub tokens: Tokens,
    /// The time in which a request's body has to arrive.
    pub body_limit: Duration,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
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
    let id = text(id);
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let number = id.parse().ok().filter(|_| digits).unwrap_or(0);
    user_id("The user id", number)
}
