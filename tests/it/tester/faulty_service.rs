//! A service that implements the contract in memory, either correctly or deliberately broken. The
//! tester must tell the two apart.
//!
//! The account of the approaches is user 1. All other users, and their operations, are the ledger's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ledger::{Fault, Ledger};

/// Answers one change. Called under a lock, for one change at a time.
pub(super) type Behaviour = fn(&mut Account, i64) -> Answer;

/// The one account, of user 1.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) balance: i64,
    /// Changes other than 0, this one included.
    pub(super) served: u64,
}

#[derive(Debug)]
pub(super) enum Answer {
    Body(u16, String),
    /// Closes the connection.
    HangUp,
    /// Keeps the connection open and sends nothing.
    Never,
}

impl Answer {
    pub(super) fn balance(balance: i64) -> Self {
        Self::Body(200, format!(r#"{{"balance":{balance}}}"#))
    }

    pub(super) fn error(status: u16, sentence: &str) -> Self {
        Self::Body(status, format!(r#"{{"error":"{sentence}"}}"#))
    }

    pub(super) fn refusal() -> Self {
        Self::error(400, "Insufficient funds")
    }
}

/// The behaviour of a correct service.
pub(super) fn exact(account: &mut Account, amount: i64) -> Answer {
    if account.balance + amount < 0 {
        return Answer::refusal();
    }
    account.balance += amount;
    Answer::balance(account.balance)
}

/// Serves until it is dropped.
pub(super) struct FaultyService {
    pub(super) url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    behaviour: Behaviour,
    token: Option<String>,
    account: Mutex<Account>,
    /// None for a service of the time before operations.
    ledger: Option<Mutex<Ledger>>,
    /// Every so many answers of the ledger's operations are lost, after they were applied.
    losing_every: Option<u64>,
    operations: AtomicU64,
    connections: Mutex<Connections>,
    /// The number of requests of bursts, by approach.
    burst: Mutex<BTreeMap<String, usize>>,
    burst_begun: Notify,
    /// The number of open connections when the first request of a burst arrived.
    open_at_first_request: watch::Sender<Option<usize>>,
}

#[derive(Default)]
struct Connections {
    open: usize,
    open_max: usize,
}

impl FaultyService {
    pub(super) async fn start(balance: i64, behaviour: Behaviour) -> Self {
        Self::start_with(Shared::of(balance, behaviour))
    }

    pub(super) async fn start_with_token(balance: i64, token: &str, behaviour: Behaviour) -> Self {
        let token = Some(format!("Bearer {token}"));
        Self::start_with(Shared { token, ..Shared::of(balance, behaviour) })
    }

    /// One that has operations, perhaps with a fault.
    pub(super) async fn start_ledger(fault: Option<Fault>, losing_every: Option<u64>) -> Self {
        let ledger = Some(Mutex::new(Ledger::with(fault)));
        Self::start_with(Shared { ledger, losing_every, ..Shared::of(0, exact) })
    }

    fn start_with(shared: Shared) -> Self {
        let listener = listen();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(shared);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared, accepting }
    }

    pub(super) fn balance(&self) -> i64 {
        self.shared.account().balance
    }

    /// The number of requests of bursts through each approach.
    pub(super) fn burst(&self) -> BTreeMap<String, usize> {
        self.shared.burst.lock().unwrap().clone()
    }

    pub(super) fn open_at_once_max(&self) -> usize {
        self.shared.connections().open_max
    }

    /// Waits until a burst has begun. Returns the number of connections that were open then.
    pub(super) async fn open_at_first_request(&self) -> usize {
        let mut open = self.shared.open_at_first_request.subscribe();
        let open = timeout(Duration::from_secs(60), open.wait_for(Option::is_some)).await;
        open.expect("a burst begins in time").unwrap().unwrap()
    }
}

impl Drop for FaultyService {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn of(balance: i64, behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            token: None,
            account: Mutex::new(Account { balance, served: 0 }),
            ledger: None,
            losing_every: None,
            operations: AtomicU64::new(0),
            connections: Mutex::default(),
            burst: Mutex::default(),
            burst_begun: Notify::new(),
            open_at_first_request: watch::Sender::new(None),
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap()
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if let Some(ledger) = &self.ledger {
            return self.operate(ledger, request).await;
        }
        if !path.starts_with("/approach/") {
            return Answer::error(404, "Not found");
        }
        let approach = path.strip_prefix("/approach/").and_then(|p| p.strip_suffix("/balance"));
        let approach = plimsoll::approach::registry::names().find(|name| Some(*name) == approach);
        let Some(approach) = approach else {
            return Answer::error(404, "Unknown approach: there are others");
        };
        let token = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        if token != self.token.as_deref() {
            return Answer::error(401, "Unauthorized");
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        if body["userId"] != 1 {
            return Answer::error(404, "User not found");
        }
        self.change(approach, body["amount"].as_i64().unwrap())
    }

    async fn operate(&self, ledger: &Mutex<Ledger>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path_and_query().unwrap().to_string();
        if request.method() == Method::GET {
            let (status, body) = ledger.lock().unwrap().get(&path);
            return Answer::Body(status, body);
        }
        let key = request.headers().get("idempotency-key").cloned();
        let key = key.as_ref().map(|key| key.to_str().unwrap());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap();
        let (status, body) = ledger.lock().unwrap().post(&path, key, &body);
        let number = self.operations.fetch_add(u64::from(path != "/users"), Ordering::Relaxed);
        match self.losing_every {
            Some(every) if number % every == every - 1 => Answer::HangUp,
            _ => Answer::Body(status, body),
        }
    }

    fn change(&self, approach: &str, amount: i64) -> Answer {
        let mut account = self.account();
        if amount != 0 {
            account.served += 1;
        }
        if super::is_of_the_burst(amount) {
            *self.burst.lock().unwrap().entry(approach.to_owned()).or_default() += 1;
            self.burst_begun.notify_one();
        }
        (self.behaviour)(&mut account, amount)
    }
}

fn listen() -> TcpListener {
    // tokio's own bind has a backlog of 128, too few for a burst.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        tokio::select! {
            // Connections made before the first request must be accepted before the count.
            biased;
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                let mut connections = shared.connections();
                connections.open += 1;
                connections.open_max = connections.open_max.max(connections.open);
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
            () = shared.burst_begun.notified() => {
                let open = shared.connections().open;
                shared.open_at_first_request.send_modify(|first| {
                    first.get_or_insert(open);
                });
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move {
            match shared.answer(request).await {
                Answer::Body(status, body) => Ok::<_, std::io::Error>(respond(status, body)),
                Answer::HangUp => Err(std::io::Error::other("hangs up on purpose")),
                Answer::Never => std::future::pending().await,
            }
        }
    });
    // Errors are ignored: a test may want the client or the service to hang up.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    shared.connections().open -= 1;
}

fn respond(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap()
}
