//! The service on its socket: HTTP in, HTTP out.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::bug::Planted;
use super::ledger::Ledger;
use super::query::Query;
use super::{reads, request, stream};

/// Serves until it is dropped.
pub(super) struct Service {
    pub(super) url: String,
    accepting: JoinHandle<()>,
}

impl Service {
    pub(super) async fn start(pool: PgPool, planted: Planted) -> Self {
        let ledger = Ledger::new(pool, planted);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepting = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                connection.set_nodelay(true).unwrap();
                tokio::spawn(serve(connection, Arc::clone(&ledger)));
            }
        });
        Self { url, accepting }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(connection: TcpStream, ledger: Arc<Ledger>) {
    let service = service_fn(|request| {
        let ledger = Arc::clone(&ledger);
        async move { Ok::<_, Infallible>(respond(&ledger, request).await) }
    });
    // Errors are ignored: a client may hang up.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}

async fn respond(ledger: &Arc<Ledger>, request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get("content-type").cloned();
    let path = request.uri().path().trim_start_matches('/').to_owned();
    if path == "changes" && kind.is_some_and(|kind| kind == "application/x-ndjson") {
        let results = stream::results(Arc::clone(ledger), request.into_body());
        return with_body(200, "application/x-ndjson", results);
    }
    let Answer { status, body } = answer(ledger, &path, request).await;
    with_body(status, "application/json", Body::from(body))
}

fn with_body(status: u16, kind: &str, body: Body) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", kind);
    let response = if status == 503 { response.header("retry-after", "1") } else { response };
    response.body(body).unwrap()
}

async fn answer(ledger: &Arc<Ledger>, path: &str, request: Request<Incoming>) -> Answer {
    let segments: Vec<&str> = path.split('/').collect();
    if request.method() == Method::GET {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        return reads::get(&ledger.store, &segments, &query).await;
    }
    let key = request::key(request.headers());
    let Ok(body) = request.into_body().collect().await else {
        return Answer::error(400, "The request body could not be read");
    };
    let Ok(body) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return Answer::error(400, "The request body must be JSON");
    };
    if segments == ["users"] {
        return reads::create_user(&ledger.store.pool, &body).await;
    }
    if segments == ["changes"] && body["mode"] != "all" {
        return each(ledger, &body).await;
    }
    match request::operation(&segments, &body, key) {
        Some(operation) => ledger.run(vec![operation]).await.remove(0),
        None => Answer::error(400, "This service knows no such request"),
    }
}

/// A bulk in which each change is decided for itself: one transaction for all of them.
async fn each(ledger: &Arc<Ledger>, body: &Value) -> Answer {
    let items = body["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(changes) = items.iter().map(|item| request::change(item, "changes")).collect() else {
        return Answer::error(400, "userId and amount are required");
    };
    let answers = ledger.run(changes).await;
    let results = answers.iter().map(Answer::as_item);
    let results: Vec<Value> =
        results.map(|result| serde_json::from_str(&result).expect("is JSON")).collect();
    Answer::new(200, json!({ "results": results }))
}
