//! `plimsoll health`: asks the service on this machine whether it is ready.
//!
//! For images without a shell or curl: with the service's own configuration it finds the service by
//! itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use tokio_rustls::rustls::pki_types::ServerName;

use super::any_certificate;
use crate::config::Config;

/// The service itself takes two seconds for a database that does not answer.
const LIMIT: Duration = Duration::from_secs(4);

/// Why the service is not ready. One line each.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is documented by its message")]
pub enum HealthError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("{0} does not answer over HTTP: {1}")]
    Http(SocketAddr, #[source] hyper::Error),
    #[error("{0} is not ready: it answers {1}")]
    NotReady(SocketAddr, StatusCode),
    #[error("{0} did not answer within {1:?}")]
    TimedOut(SocketAddr, Duration),
}

/// Asks `/readyz` of the configured address; of the internal one, if there is one.
///
/// # Errors
/// The service does not run, is not ready yet, or its database does not take changes.
pub async fn health(config: &Config) -> Result<(), HealthError> {
    let is_internal = config.internal.is_some_and(|internal| internal.port() != 0);
    let address = reachable(config.internal.filter(|_| is_internal).unwrap_or(config.listen));
    let is_tls = !is_internal && config.tls.is_some();
    match timeout(LIMIT, connect_and_ask(address, is_tls)).await {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => Err(HealthError::NotReady(address, status)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(HealthError::TimedOut(address, LIMIT)),
    }
}

async fn connect_and_ask(address: SocketAddr, is_tls: bool) -> Result<StatusCode, HealthError> {
    let failed = |error| HealthError::Connect(address, error);
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    if is_tls {
        let name = ServerName::from(address.ip());
        let stream = any_certificate::connector().connect(name, stream).await.map_err(failed)?;
        return ask(address, stream).await;
    }
    ask(address, stream).await
}

async fn ask(
    address: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<StatusCode, HealthError> {
    let failed = |error| HealthError::Http(address, error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get("/readyz").header("host", address.to_string());
    let request = request.body(Empty::<Bytes>::new()).expect("these parts are valid");
    let response = sender.send_request(request);
    tokio::select! {
        response = response => Ok(response.map_err(failed)?.status()),
        // The connection ends with an error, or after the response.
        ended = connection => Err(match ended {
            Err(error) => failed(error),
            Ok(()) => HealthError::Connect(address, io::ErrorKind::UnexpectedEof.into()),
        }),
    }
}

/// "All addresses" is where to listen, not where to connect.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_over_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
