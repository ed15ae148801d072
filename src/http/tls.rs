//! TLS: the certificate, and the handshake of a connection.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::error::{HttpError, error_body};
use super::refusal::linger;
use crate::config::{ConfigError, TlsFiles};

/// The only protocol. A client that insists on another one, such as HTTP/2, is refused by the
/// handshake.
const PROTOCOL: &[u8] = b"http/1.1";

/// The certificate of new connections. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// With a certificate.
    pub fn new(certificate: Arc<ServerConfig>) -> Self {
        Self(Arc::new(ArcSwap::new(certificate)))
    }

    /// The certificate for a connection that begins now.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Gives the connections from now on another certificate. Open ones keep theirs.
    pub fn replace(&self, certificate: Arc<ServerConfig>) {
        self.0.store(certificate);
    }
}

/// Reads a certificate with its key. TLS 1.2 and 1.3. Blocks.
///
/// # Errors
/// A file is not readable or not in PEM, or the two do not belong together. Names the file.
pub fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, ConfigError> {
    let TlsFiles { certificate, key } = files;
    let content = certificate.read()?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<_, _>>()
        .map_err(|_| certificate.unusable("is not valid PEM"))?;
    if chain.is_empty() {
        return Err(certificate.unusable("has no certificate in PEM"));
    }
    // The messages of the parser may quote a line of the file.
    let private =
        PrivateKeyDer::from_pem_slice(&key.read_secret()?).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                key.unusable("has no private key in PEM without a passphrase")
            }
            _ => key.unusable("is not valid PEM"),
        })?;
    let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions();
    let config = versions.and_then(|it| it.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            key.unusable(format!("is not the key of {}", certificate.path().display()))
        }
        Error::InvalidCertificate(error) => {
            certificate.unusable(format!("has an invalid certificate: {error}"))
        }
        error => key.unusable(format!("cannot be used: {error}")),
    })?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// Begins TLS on a connection; `None` if the client does not. Has no time limit of its own.
pub(super) async fn accept(
    certificate: Arc<ServerConfig>,
    stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the connection was gone at once");
        return None;
    }
    if speaks_http(&stream).await {
        refuse(stream).await;
        return None;
    }
    match TlsAcceptor::from(certificate).accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// Whether the first byte is that of a method. A handshake begins with 22.
async fn speaks_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_uppercase()
}

/// Tells a client that speaks plain HTTP, which cannot read the alert of a failed handshake.
async fn refuse(mut stream: TcpStream) {
    let body = error_body(&HttpError::NotTls.to_string());
    let length = body.len();
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    if stream.write_all(response.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        linger(stream).await;
    }
}
