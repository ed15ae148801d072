//! Observes each request, around the router: its id, its metrics, and its line in the log if it failed.
//!
//! A request that succeeds costs two readings of the clock, one counter, one histogram, and an id; see
//! ARCHITECTURE.md. It logs nothing. What a line needs beyond the request's head travels in the
//! response's extensions: `Reasons` from the one place that makes errors, [`Caller`] from the check of
//! tokens.
//!
//! - `routes`: which route a request is for.
//! - `request_id`, `traceparent`: what connects a request with the logs of others.
//! - [`failure_log`]: how often a failure is logged.

pub mod failure_log;
mod request_id;
mod routes;
mod traceparent;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use futures_util::{FutureExt, future};
use tower::Service;
use tracing::debug;
use utoipa::openapi::OpenApi;

use self::failure_log::{FailureLog, Line};
use self::routes::{Route, RouteId, Routes};
use self::traceparent::Traceparent;
use super::auth::Caller;
use super::error::{Reason, Reasons, response_to_panic};
use super::host;
use crate::metrics::Metrics;
use crate::metrics::requests::Load;

pub(super) use self::request_id::{NAME as X_REQUEST_ID, make as make_request_id};
pub(super) use self::traceparent::NAME as TRACEPARENT;

/// What serves the requests of one thread: its routes, and what observes them. Clones share both.
#[derive(Clone)]
pub struct Front {
    router: Router,
    observer: Option<Arc<Observer>>,
}

/// A router that nothing observes, such as that of an example.
impl From<Router> for Front {
    fn from(router: Router) -> Self {
        Self { router, observer: None }
    }
}

impl Front {
    pub(super) fn new(router: Router, document: &OpenApi, parts: &ObserverParts) -> Self {
        let ObserverParts { metrics, log } = parts;
        let observer = Observer {
            routes: Routes::of(document, metrics.requests()),
            load: metrics.requests().load(),
            log: log.clone(),
        };
        Self { router, observer: Some(Arc::new(observer)) }
    }

    /// Begins to observe a request.
    pub(super) fn begin<B>(&self, request: &Request<B>) -> Option<Observed> {
        self.observer.as_ref().map(|observer| Observed::begin(observer, request))
    }

    /// Counts a connection until the result is dropped.
    pub(super) fn connection(&self) -> Option<OpenConnection> {
        let observer = self.observer.clone()?;
        observer.load.connections.begin();
        Some(OpenConnection(observer))
    }

    /// Responds to one request. A panic of its handler is one 500, and the service continues.
    pub(super) fn respond<B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<B>
    where
        Router: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    {
        if !host::is_valid(&request) {
            return future::ready(Ok(host::refusal())).left_future();
        }
        // Handlers share only queues, and locks that recover from a panic.
        let responding = AssertUnwindSafe(self.router.clone().call(request)).catch_unwind();
        let responding =
            responding.map(|result| result.unwrap_or_else(|panic| Ok(response_to_panic(&*panic))));
        responding.right_future()
    }
}

/// What all observers of a service share.
#[derive(Clone)]
pub struct ObserverParts {
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Where failures are logged.
    pub log: FailureLog,
}

/// Observes the requests of one thread, so that its counts of references are not shared with another.
struct Observer {
    routes: Routes,
    load: Arc<Load>,
    log: FailureLog,
}

/// An open connection, which is counted until this is dropped.
pub(super) struct OpenConnection(Arc<Observer>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.load.connections.end();
    }
}

/// A request that is observed: in flight until this is dropped.
///
/// One of these stays in memory for each waiting request, so what few clients send is apart.
pub(super) struct Observed {
    observer: Arc<Observer>,
    began: Instant,
    route: RouteId,
    sent: Option<Box<Sent>>,
}

/// What connects the request with the logs of others.
#[derive(Default)]
struct Sent {
    id: Option<HeaderValue>,
    traceparent: Option<Traceparent>,
    /// For a stream.
    caller: Option<Arc<str>>,
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.observer.load.requests.end();
    }
}

impl Observed {
    fn begin<B>(observer: &Arc<Observer>, request: &Request<B>) -> Self {
        observer.load.requests.begin();
        Self {
            observer: Arc::clone(observer),
            began: Instant::now(),
            route: observer.routes.find(request.method(), request.uri().path()),
            sent: Sent::read(request.headers()),
        }
    }

    /// Counts the response, gives it its headers, and logs it if it is a failure.
    pub(super) fn end(&mut self, response: &mut Response<Body>) {
        let took = self.began.elapsed();
        let status = response.status();
        self.route().counters.observe(status.as_u16(), took);
        let sent = self.sent.as_ref().and_then(|sent| sent.id.clone());
        let id = sent.unwrap_or_else(make_request_id);
        // An item of a bulk may have failed where the whole did not.
        if status.is_server_error() || response.extensions().get::<Reasons>().is_some() {
            self.sent.get_or_insert_default().id = Some(id.clone());
            self.report_response(response, took);
        } else if status.is_client_error() {
            debug!(request_id = ?id, route = self.route().name, %status, "a request was refused");
        }
        let headers = response.headers_mut();
        if let Some(traceparent) = self.sent.as_ref().and_then(|sent| sent.traceparent.as_ref()) {
            headers.insert(TRACEPARENT, traceparent.of_response());
        }
        headers.insert(X_REQUEST_ID, id);
    }

    #[cold]
    fn report_response(&self, response: &mut Response<Body>, took: Duration) {
        let Reasons(mut reasons) = response.extensions_mut().remove().unwrap_or_default();
        let status = response.status();
        if reasons.is_empty() && status.is_server_error() {
            reasons.push(Reason::without_cause(status));
        }
        let caller = caller(response);
        for reason in reasons {
            self.log(&reason, caller.as_deref(), took);
        }
    }

    /// Keeps what a stream needs to log its failures. Its response has its headers.
    pub(super) fn keep_for_stream(&mut self, response: &Response<Body>) {
        let sent = self.sent.get_or_insert_default();
        sent.id = response.headers().get(X_REQUEST_ID).cloned();
        sent.caller = caller(response);
    }

    /// Logs failures of a stream, whose response has begun long ago.
    pub(super) fn report(&self, reasons: Vec<Reason>) {
        for reason in reasons {
            let caller = self.sent.as_ref().and_then(|sent| sent.caller.as_deref());
            self.log(&reason, caller, self.began.elapsed());
        }
    }

    fn log(&self, reason: &Reason, caller: Option<&str>, took: Duration) {
        let sent = self.sent.as_deref();
        let Route { name, method, operation, approach, .. } = self.route();
        self.observer.log.write(&Line {
            request_id: sent.and_then(|sent| sent.id.as_ref()?.to_str().ok()),
            trace_id: sent.and_then(|sent| Some(sent.traceparent.as_ref()?.trace_id())),
            method,
            route: name,
            operation,
            approach: *approach,
            caller,
            took,
            reason,
        });
    }

    fn route(&self) -> &Route {
        self.observer.routes.get(self.route)
    }
}

impl Sent {
    /// In one walk: a look-up of each name costs more than the few headers that a request has.
    fn read(headers: &HeaderMap) -> Option<Box<Self>> {
        let (mut ids, mut traceparents) = (Single::default(), Single::default());
        for (name, value) in headers {
            match name.as_str() {
                "x-request-id" => ids.add(value),
                "traceparent" => traceparents.add(value),
                _ => {}
            }
        }
        let id = ids.value().filter(|id| request_id::is_valid(id)).cloned();
        let traceparent = traceparents.value().and_then(Traceparent::of);
        let is_any = id.is_some() || traceparent.is_some();
        is_any.then(|| Box::new(Self { id, traceparent, caller: None }))
    }
}

/// The value of a header. Of two, it is not known which one is meant.
#[derive(Default)]
struct Single<'a> {
    value: Option<&'a HeaderValue>,
    is_repeated: bool,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        self.is_repeated |= self.value.replace(value).is_some();
    }

    fn value(&self) -> Option<&'a HeaderValue> {
        self.value.filter(|_| !self.is_repeated)
    }
}

/// The name of the token that the request came with.
fn caller(response: &Response<Body>) -> Option<Arc<str>> {
    response.extensions().get::<Caller>().map(|Caller(name)| Arc::clone(name))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use axum::body::to_bytes;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;
    use crate::http::document;

    /// A writer of a log that a test reads.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_names_the_caller_even_where_no_cause_is_known() {
        let parts = ObserverParts { metrics: Arc::default(), log: FailureLog::default() };
        let front = Front::new(Router::new(), &document(), &parts);
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
        tracing::subscriber::with_default(log.finish(), || {
            let mut observed = front.begin(&Request::new(Body::empty())).unwrap();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response.extensions_mut().insert(Caller("shop".into()));
            observed.end(&mut response);
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        for part in [" WARN ", "a request failed", " caller=\"shop\"", " status=502", "unknown"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn headers_that_are_sent_twice_are_ignored() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        assert!(Sent::read(&headers).is_none());
        for (name, value) in [(X_REQUEST_ID, "a"), (TRACEPARENT, traceparent)] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let sent = Sent::read(&headers).unwrap();
        assert!(sent.id.is_some() && sent.traceparent.is_some());
        headers.append(X_REQUEST_ID, HeaderValue::from_static("a"));
        assert!(Sent::read(&headers).unwrap().id.is_none());
        headers.append(TRACEPARENT, HeaderValue::from_static(traceparent));
        headers.append(TRACEPARENT, HeaderValue::from_static(traceparent));
        assert!(Sent::read(&headers).is_none());
    }

    #[tokio::test]
    async fn a_panic_is_one_500_that_reveals_nothing() {
        let panics = async || -> StatusCode { panic!("a secret") };
        let front = Front::from(Router::new().route("/", get(panics)));
        let Ok(response) =
            front.respond(Request::get("/").header("host", "x").body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let Some(Reasons(reasons)) = response.extensions().get() else { panic!("no reason") };
        assert_eq!(reasons[0].cause(), "a handler panicked: a secret");
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        assert_eq!(body, r#"{"error":"Internal server error"}"#);
    }
}
