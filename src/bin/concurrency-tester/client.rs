//! Opens HTTP/1.1 connections to the service and sends requests over them.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::reply::Reply;
use crate::run_error::RunError;
use crate::target::Target;

/// Room for the head of an answer, and for reading its body piece by piece. Every idle connection
/// holds such a buffer: 10,000 of them and the service must fit into memory together.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// No answer of a burst is longer if it is correct. Longer bodies are wrong and are truncated to this
/// length: 10,000 of them must fit into memory.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// Limits one attempt to connect. A lost SYN is sent for the second time after 3 s, so the limit is
/// longer. An address that drops packets must not block forever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Builds requests for the service and opens connections to it.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    target: Target,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

/// The request body of a change. The order of the fields is their order on the wire.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeBody {
    user_id: i64,
    amount: i64,
}

impl Client {
    /// Resolves the host name and keeps the first address that accepts a connection.
    ///
    /// # Errors
    /// [`RunError::Unreachable`] if no address does.
    pub(crate) async fn resolve(
        target: &Target,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, RunError> {
        let unreachable = |why: String| RunError::Unreachable { url: target.to_string(), why };
        let host = HeaderValue::from_str(&target.authority)
            .map_err(|error| unreachable(error.to_string()))?;
        let look_up = tokio::net::lookup_host(&target.address);
        let addresses = timeout(CONNECT_TIMEOUT, look_up)
            .await
            .map_err(|_| unreachable("the name look-up takes too long".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let mut why = "the name has no address".to_owned();
        for address in addresses {
            match connect(address).await {
                Ok(_) => return Ok(Self { address, target: target.clone(), host, authorization }),
                Err(error) => why = error.to_string(),
            }
        }
        Err(unreachable(why))
    }

    /// The address of the service as given on the command line.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Opens a connection that is ready for its first request.
    ///
    /// # Errors
    /// The system's error from connecting.
    pub(crate) async fn open(&self) -> io::Result<Connection> {
        let stream = connect(self.address).await?;
        let (mut sender, driver) = http1::Builder::new()
            .read_buf_exact_size(Some(READ_BUFFER_BYTES))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // `send_request` returns the same error.
            let _ = driver.await;
        });
        let ready = sender.ready().await;
        let connection = Connection { sender, driver };
        ready.map(|()| connection).map_err(io::Error::other)
    }

    /// `PATCH /approach/{approach}/balance`.
    pub(crate) fn change(&self, approach: &str, user: i64, amount: i64) -> Request<Full<Bytes>> {
        let body = serde_json::to_vec(&ChangeBody { user_id: user, amount })
            .expect("two numbers are always JSON");
        self.json(Method::PATCH, &format!("/approach/{approach}/balance"), body)
    }

    /// `POST` with a JSON body, and with an idempotency key if there is one.
    pub(crate) fn post(&self, path: &str, body: String, key: Option<&str>) -> Request<Full<Bytes>> {
        let mut request = self.json(Method::POST, path, body.into());
        if let Some(key) = key {
            let value = HeaderValue::from_str(&format!("\"{key}\""))
                .expect("the tester's own keys are visible ASCII");
            request.headers_mut().insert(IDEMPOTENCY_KEY, value);
        }
        request
    }

    /// `GET`.
    pub(crate) fn get(&self, path: &str) -> Request<Full<Bytes>> {
        self.request(Method::GET, path, Vec::new())
    }

    fn json(&self, method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = self.request(method, path, body);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.target.base))
            .header(HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.body(Full::from(body)).expect("base, path and headers were checked as flags")
    }
}

/// An open connection. Dropping it closes it and aborts the request in flight.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Sends one request of a burst and waits for its whole answer. The caller sets the time-out.
    pub(crate) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Reply {
        self.exchange_up_to(BODY_BYTES_MAX, request).await
    }

    /// As [`Connection::exchange`], with another limit for the length of the body.
    pub(crate) async fn exchange_up_to(
        &mut self,
        bytes_max: usize,
        request: Request<Full<Bytes>>,
    ) -> Reply {
        let answer = async {
            let response = self.sender.send_request(request).await?;
            read(response, bytes_max).await
        };
        answer.await.unwrap_or_else(|error: hyper::Error| {
            Reply::ConnectionLost(with_causes(&error).into_boxed_str())
        })
    }

    /// Waits until another request can be sent. False if the connection has closed.
    pub(crate) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn read(response: Response<Incoming>, bytes_max: usize) -> hyper::Result<Reply> {
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    // Read to the end even if the rest is discarded: otherwise the answer may be incomplete.
    while let Some(frame) = incoming.frame().await {
        if let Ok(piece) = frame?.into_data() {
            let room = bytes_max - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }
    // Copied to its exact size: the received piece would keep the whole read buffer alive.
    Ok(Reply::Answer { status, body: body.into_boxed_slice() })
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
