//! The service announces its end before it ends.
//!
//! A load balancer learns by `GET /readyz` that it should send new requests elsewhere, and each response
//! asks its client to use another connection from now on. Connections are still accepted meanwhile. So
//! when the service then stops accepting, hardly anybody is left who could be cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};

/// Whether the service is about to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// From now on it is.
    pub fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_announced(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes a response the last one of its connection if the service is about to stop.
    pub(super) fn mark(&self, response: &mut Response<Body>) {
        if self.is_announced() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}
