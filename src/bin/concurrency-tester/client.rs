//! Opens HTTP/1.1 connections to the service, and builds the requests that are sent over them.

mod connection;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use connection::Connection;

use crate::contract::request::Sent;
use crate::run_error::RunError;
use crate::target::Target;

/// Room for the head of an answer, and for reading its body piece by piece. Every idle connection
/// holds such a buffer: 10,000 of them and the service must fit into memory together.
const READ_BUFFER_BYTES: usize = 4 * 1024;

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
    pub(crate) async fn open<B>(&self) -> io::Result<Connection<B>>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + 'static,
    {
        let stream = self.connect().await?;
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
        let connection = Connection { sender, driver, retry_after: None };
        ready.map(|()| connection).map_err(io::Error::other)
    }

    /// Opens a connection without any HTTP on it.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        connect(self.address).await
    }

    /// `PATCH /approach/{approach}/balance`.
    pub(crate) fn change(&self, approach: &str, user: i64, amount: i64) -> Request<Full<Bytes>> {
        let body = serde_json::to_vec(&ChangeBody { user_id: user, amount })
            .expect("two numbers are always JSON");
        self.json(Method::PATCH, &format!("/approach/{approach}/balance"), body)
    }

    /// The request for an operation.
    pub(crate) fn send(&self, sent: Sent) -> Request<Full<Bytes>> {
        let mut request = self.json(sent.method, &sent.path, sent.body.into());
        if let Some(key) = sent.key {
            let value = HeaderValue::from_str(&format!("\"{key}\""))
                .expect("the tester's own keys are visible ASCII");
            request.headers_mut().insert(IDEMPOTENCY_KEY, value);
        }
        request
    }

    /// The bytes of the request for an operation.
    pub(crate) fn bytes(&self, sent: &Sent) -> Vec<u8> {
        let Sent { method, path, body, key } = sent;
        let (base, host, length) = (&self.target.base, &self.target.authority, body.len());
        let mut bytes = format!(
            "{method} {base}{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n"
        )
        .into_bytes();
        if let Some(key) = key {
            bytes.extend(format!("idempotency-key: \"{key}\"\r\n").bytes());
        }
        if let Some(authorization) = &self.authorization {
            bytes.extend_from_slice(b"authorization: ");
            bytes.extend_from_slice(authorization.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }

    /// The request for a stream of changes.
    pub(crate) fn stream<B>(&self, body: B) -> Request<B> {
        let mut request = self.request(Method::POST, "/changes", body);
        let lines = HeaderValue::from_static("application/x-ndjson");
        request.headers_mut().insert(CONTENT_TYPE, lines);
        request
    }

    /// `POST` with a JSON body.
    pub(crate) fn post(&self, path: &str, body: String) -> Request<Full<Bytes>> {
        self.json(Method::POST, path, body.into())
    }

    /// `GET`.
    pub(crate) fn get(&self, path: &str) -> Request<Full<Bytes>> {
        self.request(Method::GET, path, Full::default())
    }

    fn json(&self, method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = self.request(method, path, Full::from(body));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    fn request<B>(&self, method: Method, path: &str, body: B) -> Request<B> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.target.base))
            .header(HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.body(body).expect("base, path and headers were checked as flags")
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
