//! Certificates made for a test, and clients that trust them.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::cluster::fresh_folder;

/// A certificate for `localhost` that has signed itself, in files.
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
}

impl Certificate {
    pub(super) fn new() -> Self {
        Self::in_folder(&fresh_folder("certificate"))
    }

    /// Replaces the files of an older certificate.
    pub(super) fn in_folder(folder: &Path) -> Self {
        let CertifiedKey { cert, signing_key } = new_pair();
        let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
        Self { der: cert.der().clone(), cert_file, key_file }
    }

    pub(super) fn variables(&self) -> [(&'static str, &str); 2] {
        [
            ("TLS_CERT_FILE", self.cert_file.to_str().unwrap()),
            ("TLS_KEY_FILE", self.key_file.to_str().unwrap()),
        ]
    }

    /// A connection over TLS that trusts only this certificate.
    pub(super) async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        self.connect_with(address, &[&TLS13], &["http/1.1"]).await.expect("a handshake")
    }

    /// The same, with one version and these protocols.
    pub(super) async fn connect_with(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols =
            protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// Both versions that the service speaks.
pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn new_pair() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}
